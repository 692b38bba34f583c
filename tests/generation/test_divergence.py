"""KL(unsteered || steered): against an oracle of one pass per sequence, under every way of batching."""

import math

import pytest
import torch
from tests.tolerance import of_margins

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.errors import PromptError
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import Divergence, measure_divergence, own_answers
from neurodial.generation.generate import generate
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.model.tiny import TINY_FAMILIES, tiny_subject
from neurodial.prompts.passage import Passage
from neurodial.prompts.render import render

PASSAGES = [Passage((256, 5, 6, 7, 8, 9), 2, 4), Passage((256, 40), 1, 1), Passage(tuple(range(30, 50)), 12, 9)]
CIRCUIT = Circuit.of([Row(Neuron(layer, None, index), 1.0, 1.0) for layer in range(2) for index in range(6)])


def oracle(subject, passage, intervention):
    tokens = torch.tensor([passage.tokens])
    with torch.no_grad():
        p = subject.model(input_ids=tokens).logits[0].double().log_softmax(-1)
        with steer(subject, intervention):
            q = subject.model(input_ids=tokens).logits[0].double().log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1)
    return float(kl[list(passage.places)].mean())


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_divergence_equals_the_oracle(family):
    subject = tiny_subject(family)
    scales = [Scale(CIRCUIT, 1.0), Scale(CIRCUIT, -2.0)]
    for budget in (4096, 1):
        found = measure_divergence(subject, PASSAGES, scales, budget=budget)
        for intervention, divergence in zip(scales, found, strict=True):
            expected = [oracle(subject, passage, intervention) for passage in PASSAGES]
            assert divergence.by_passage == pytest.approx(expected, abs=of_margins(subject))
            assert divergence.mean > 1e-3
            assert divergence.scored == (4, 1, 9)


def test_dial_zero_costs_nothing():
    [zero] = measure_divergence(tiny_subject(), PASSAGES, [Scale(CIRCUIT, 0.0)])
    assert zero.mean == 0.0


def test_divergence_is_not_negative_and_grows_with_the_dial():
    found = measure_divergence(tiny_subject(), PASSAGES, [Scale(CIRCUIT, d) for d in (0.01, 0.1, 1.0)])
    assert 0 < found[0].mean < found[1].mean < found[2].mean


def test_standard_error_is_that_of_passage_means():
    values = (0.1, 0.2, 0.6, 0.3)
    found = Divergence(values, (5, 5, 5, 5))
    assert found.standard_error == pytest.approx(torch.tensor(values).std().item() / math.sqrt(4))
    assert math.isnan(Divergence((0.1,), (5,)).standard_error)


def test_own_answers_are_the_greedy_ones_with_their_end():
    subject = tiny_subject()
    prompts = ["Hello", "What is it?"]
    decoding = Decoding(max_new_tokens=6)
    answers = generate(subject, prompts, decoding=decoding)
    passages = own_answers(subject, prompts, decoding=decoding)
    for prompt, answer, passage in zip(render(subject.tokenizer, prompts), answers, passages, strict=True):
        assert passage.tokens == (*prompt, *answer.tokens)
        assert passage.prompt_length == len(prompt)
        assert passage.scored == len(answer.tokens) + answer.is_finished


def test_a_model_without_answers_is_refused():
    subject = tiny_subject()
    subject.model.generation_config.eos_token_id = list(range(260))
    with pytest.raises(PromptError, match="none of the 1 neutral prompts"):
        own_answers(subject, ["Hello"])


def test_no_passages_are_refused():
    with pytest.raises(PromptError, match="no passages"):
        measure_divergence(tiny_subject(), [], [])
    with pytest.raises(PromptError, match="4 scored"):
        Passage((1, 2, 3), 1, 4)
