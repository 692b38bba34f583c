"""Answers that begin from a shared beginning: the same keys and values, the same tokens, less to compute."""

import pytest
import torch
from tests.subjects import FAMILIES, circuit_of, close, differ, shared, sliding

import neurodial as nd
from neurodial.activations.batches import Batch, padded
from neurodial.generation import generate as generating
from neurodial.generation.as_alone import as_alone
from neurodial.generation.begun import begun
from neurodial.generation.per_row import row_slots
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.model.hooks import on_forward

BEGINNING = tuple(range(20, 40))
PROMPTS = ((*BEGINNING, 3, 4, 5), (*BEGINNING, 6), (*BEGINNING, 3, 9, 9, 9, 1), (*BEGINNING, 7, 8))
WINDOWED = ("gemma2", "gemma3_text")
"""Their caches drop tokens that have left the window, so rows can't be moved in them."""
ASKED = [f"Of {animal}?" for animal in ("a cat", "the second dog", "bears", "a very old horse")]


def batch_of(prompts):
    lengths = tuple(map(len, prompts))
    return Batch(tuple(range(len(prompts))), padded(prompts, 0, "left"), lengths)


def alone(subject, intervention, prompt):
    """Oracle: the keys and values of a whole prompt in one pass, under its intervention alone."""
    with torch.no_grad(), row_slots(subject, [intervention]) as (steering, slots):
        if steering is not None:
            steering.assign(slots)
            steering.mark_prompts([len(prompt)])
        return subject.decoder(input_ids=torch.tensor([prompt[:-1]]), use_cache=True).past_key_values


@pytest.mark.parametrize("family", FAMILIES)
def test_keys_and_values_are_those_of_each_prompt_by_itself(family):
    subject = shared(family)
    circuit = circuit_of(subject, 8, dose=1.5)
    under = [None, Scale(circuit, 1.0), None, Scale(circuit, -1.0, when="prompt")]
    with row_slots(subject, under) as (steering, slots):
        cache = begun(subject, steering, batch_of(PROMPTS), slots)
    if family in WINDOWED:
        assert cache is None
        return
    assert cache.get_seq_length() == max(map(len, PROMPTS)) - 1
    for row, (prompt, intervention) in enumerate(zip(PROMPTS, under, strict=True)):
        for layer, expected in zip(cache.layers, alone(subject, intervention, prompt).layers, strict=True):
            for states, of_prompt in ((layer.keys, expected.keys), (layer.values, expected.values)):
                # Another batch shape reorders float32 sums.
                close(states[row, :, 1 - len(prompt) :], of_prompt[0])
    plain = alone(subject, None, PROMPTS[1]).layers[-1].keys[0]
    differ(cache.layers[-1].keys[1, :, 1 - len(PROMPTS[1]) :], plain)


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_the_same_and_the_beginning_runs_once(family, monkeypatch):
    subject = shared(family)
    circuit = circuit_of(subject, 8, dose=1.5)
    under = [None, Scale(circuit, 1.0), Scale(circuit, 2.0, when="generated"), Scale(circuit, 1.0)]
    decoding = nd.Decoding(max_new_tokens=6, system="Answer every question in one short sentence, please.")
    monkeypatch.setattr("neurodial.generation.states.is_steered_elsewhere", lambda *_: False)  # the hook that looks
    assert as_alone(subject).cached is (family not in WINDOWED)  # not measured under a hook
    found, counts = [], []
    for shares in (True, False):
        if not shares:
            monkeypatch.setattr(generating, "begun", lambda *_: None)
        passes = []
        hook = on_forward(subject, lambda rows, tokens, _, passes=passes: passes.append(rows * tokens))
        try:
            answers = generating.generate(subject, ASKED, under=under, decoding=decoding)
        finally:
            hook.remove()
        found.append([answer.tokens for answer in answers])
        counts.append(sum(passes))
    assert found[0] == found[1]
    assert (counts[0] < counts[1]) is (family not in WINDOWED)


@pytest.mark.parametrize("why", ["nothing is shared", "a block steers too", "whole prompts"])
def test_where_beginnings_are_not_shared(why):
    subject = shared("llama")
    circuit = circuit_of(subject, 8)
    prompts = [(*range(20), 3), (5, *range(20), 3)] if why == "nothing is shared" else PROMPTS
    when = "answer" if why == "whole prompts" else "all"
    with row_slots(subject, [Scale(circuit, 1.0, when=when)] * len(prompts)) as (steering, slots):
        if why == "a block steers too":
            with steer(subject, Scale(circuit, 1.0)):
                assert begun(subject, steering, batch_of(prompts), slots) is None
            return
        assert begun(subject, steering, batch_of(prompts), slots) is None


def test_layers_that_drop_old_tokens_are_left_alone():
    subject = sliding("mistral")
    assert begun(subject, None, batch_of(PROMPTS), [0] * len(PROMPTS)) is None
