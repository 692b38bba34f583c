"""The bounds of `tests/tolerance.py` against twins in float64: float32 keeps within them, what is wrong does not."""

import copy

import pytest
import torch
from tests.subjects import FAMILIES, circuit_of, logits, shared, tokens_of
from tests.tolerance import chain, logit_size, of_activations, of_log_probs, of_margins, rounding

import neurodial as nd
from neurodial.model.subject import Subject

TEXTS = ("abcdefgh", "the long way home", "x y z 123")


def twin(subject):
    """The same model in float64."""
    return Subject.of(copy.deepcopy(subject.model).double(), subject.tokenizer)


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_keeps_within_the_bound_and_another_token_or_dial_does_not(family):
    subject = shared(family)
    exact = twin(subject)
    for row in tokens_of(subject, TEXTS):
        found, wanted = logits(subject, row).double(), logits(exact, row)
        assert float(wanted.abs().max()) <= logit_size(subject)
        bound = of_log_probs(subject)
        error = float((found.log_softmax(-1) - wanted.log_softmax(-1)).abs().max())
        assert error <= bound
        other = logits(exact, [*row[:-1], row[-1] + 1])[-1]
        assert float((other.log_softmax(-1) - wanted[-1].log_softmax(-1)).abs().max()) > 100 * bound
        with nd.steer(subject, nd.Scale(circuit_of(subject), dial=0.5)):
            steered = logits(subject, row).double()
        assert float((steered.log_softmax(-1) - wanted.log_softmax(-1)).abs().max()) > 100 * bound


def test_the_bound_follows_size_dtype_and_terms():
    assert rounding(20.0, 100) == pytest.approx(2 * rounding(10.0, 100))
    assert rounding(10.0, 400) == pytest.approx(2 * rounding(10.0, 100))
    assert rounding(1.0, 100, torch.bfloat16) == pytest.approx(2**16 * rounding(1.0, 100))
    subject = shared()
    assert chain(subject, 128) > chain(subject, 64) > chain(subject, 1)
    assert of_margins(subject, predictions=4) == pytest.approx(2 * of_margins(subject))
    assert of_margins(subject) > of_log_probs(subject)
    assert of_activations(subject, torch.tensor([1.0, -4.0])) == pytest.approx(rounding(4.0, chain(subject)))
