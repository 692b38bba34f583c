"""The anchored pin against its formula, with and without a cache, and the model given back."""

import pytest
import torch
from tests.subjects import SOME_FAMILIES
from tests.tolerance import rounding

from neurodial.circuit.site import Neuron
from neurodial.errors import OptionError, SteeringError
from neurodial.generation.generate import Decoding, generate
from neurodial.intervention.anchor import Anchor, anchored
from neurodial.model.hooks import on_neurons
from neurodial.model.tiny import tiny_subject

NEURON = Neuron(1, None, 5)
TOKENS = torch.tensor([[256, 72, 105, 106, 107], [256, 40, 41, 42, 43]])


def read(subject, tokens, **options):
    kept = []
    handle = on_neurons(subject, subject.sites[NEURON.layer], lambda neurons: kept.append(neurons.detach().clone()))
    with torch.no_grad():
        output = subject.decoder(input_ids=tokens, **options)
    handle.remove()
    return kept[0], output


def by_formula(activation, extreme, anchor):
    """One number at a time, as the paper writes it, for a positive gap."""
    if extreme == 0:
        return activation
    target = anchor.strength * anchor.limit * abs(extreme) / anchor.gap - anchor.gap
    return min(activation, max(target, anchor.limit))


@pytest.mark.parametrize("family", SOME_FAMILIES)
@pytest.mark.parametrize("strength", [0.1, 3.0])
def test_a_prompt_is_pinned_by_the_formula(family, strength):
    subject = tiny_subject(family)
    anchor = Anchor(NEURON, limit=-1.0, gap=0.05, width=2, strength=strength)
    plain, _ = read(subject, TOKENS)
    with anchored(subject, anchor):
        pinned, _ = read(subject, TOKENS)
    for row in range(2):
        last = plain[row, -2:, 5]
        extreme = float(last[last.abs().argmax()])
        reach = 1 + abs(strength * anchor.limit * extreme / anchor.gap)  # the largest number that the formula meets
        for token in range(5):
            expected = by_formula(float(plain[row, token, 5]), extreme, anchor)
            assert float(pinned[row, token, 5]) == pytest.approx(expected, abs=rounding(reach, terms=6))
    others = [index for index in range(plain.shape[-1]) if index != 5]
    assert torch.equal(plain[..., others], pinned[..., others])
    assert not torch.equal(plain[..., 5], pinned[..., 5])


def test_the_other_sign_is_the_mirror_image():
    down, up = Anchor(NEURON, -1.0, 0.5, 1), Anchor(NEURON, 1.0, -0.5, 1)
    activations, extreme = torch.tensor([[0.3, -2.0, 0.0]]), torch.tensor([0.4])
    assert torch.equal(down.pinned(activations, extreme), -up.pinned(-activations, -extreme))


def test_a_context_that_does_not_drive_the_neuron_is_left_alone():
    activations = torch.tensor([[0.3, 0.0], [0.3, 0.0]])
    pinned = Anchor(NEURON, -1.0, 0.5, 1).pinned(activations, torch.tensor([0.0, 0.2]))
    assert torch.equal(pinned[0], activations[0])
    assert not torch.equal(pinned[1], activations[1])


def test_the_anchor_is_kept_for_what_is_generated():
    subject = tiny_subject()
    anchor = Anchor(NEURON, limit=-3.0, gap=0.01, width=1)
    plain, output = read(subject, TOKENS, use_cache=True)
    extreme = plain[:, -1, 5]
    with anchored(subject, anchor):
        _, output = read(subject, TOKENS, use_cache=True)
        following, _ = read(subject, torch.tensor([[50], [51]]), past_key_values=output.past_key_values)
    expected = (anchor.limit * extreme.abs() / anchor.gap - anchor.gap).clamp(min=anchor.limit)
    torch.testing.assert_close(following[:, 0, 5], expected)
    with anchored(subject, anchor), pytest.raises(SteeringError, match="has not seen"):
        subject.decoder(input_ids=torch.tensor([[50], [51]]), past_key_values=output.past_key_values)


def test_answers_in_a_batch_are_as_one_by_one():
    subject = tiny_subject()
    prompts, decoding = ["Hi", "A longer prompt than that"], Decoding(max_new_tokens=5)
    with anchored(subject, Anchor(NEURON, limit=-30.0, gap=0.01, width=2)):
        together = generate(subject, prompts, decoding=decoding)
        alone = [generate(subject, [prompt], decoding=decoding)[0] for prompt in prompts]
    assert [answer.tokens for answer in together] == [answer.tokens for answer in alone]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in subject.model.modules())


@pytest.mark.parametrize(
    "fields", [(0.0, 1.0, 1), (-1.0, 0.0, 1), (-1.0, -1.0, 1), (-1.0, 1.0, 0), (float("nan"), 1.0, 1)]
)
def test_an_anchor_that_makes_no_sense_is_refused(fields):
    with pytest.raises(OptionError):
        Anchor(NEURON, *fields)


def test_what_the_model_lacks_is_refused():
    subject = tiny_subject()
    with pytest.raises(SteeringError, match="no neuron"), anchored(subject, Anchor(Neuron(9, None, 0), -1.0, 1.0, 1)):
        pass
    with anchored(subject, Anchor(NEURON, -1.0, 1.0, 9)), pytest.raises(SteeringError, match="at least 9"):
        subject.decoder(input_ids=TOKENS)
