"""What all rows of a batch begin with is run once: the same outputs as each row by itself, in fewer tokens."""

import pytest
import torch
from tests.subjects import FAMILIES, SLIDING, shared, sliding

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.generation.per_row import row_slots
from neurodial.generation.states import SHORTEST_SHARED, Rows, row_states
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.model.head import hidden_states
from neurodial.model.hooks import on_forward

CIRCUIT = Circuit.of([Row(Neuron(layer, None, index), 1.0, 1.5) for layer in range(2) for index in range(6)])
EACH = [None, Scale(CIRCUIT, 1.0), Scale(CIRCUIT, -1.0, when="prompt"), Scale(CIRCUIT, 1.0, when="generated"), None]
BEGINNING = list(range(20, 20 + SHORTEST_SHARED + 6))
ENDS = [[3, 4, 5], [6], [3, 9, 9, 9], [4, 4], [7, 8]]
PROMPTS = [len(BEGINNING) + 1] * len(ENDS)


def padded():
    longest = max(map(len, ENDS))
    return torch.tensor([[*BEGINNING, *end, *[0] * (longest - len(end))] for end in ENDS])


def alone(subject, number):
    """Oracle: the row's own tokens, without padding, in one pass under its intervention alone."""
    tokens = torch.tensor([[*BEGINNING, *ENDS[number]]])
    with torch.no_grad(), row_slots(subject, [EACH[number]]) as (steering, slots):
        if steering is not None:
            steering.assign(slots)
            steering.mark_prompts([PROMPTS[number]])
        return hidden_states(subject, tokens)[0]


def together(subject):
    """The batch, and the (rows, tokens) of each pass that it took."""
    passes = []

    def look(rows, tokens, cached):
        del cached
        passes.append((rows, tokens))

    with row_slots(subject, EACH) as (steering, slots):
        hook = on_forward(subject, look)
        try:
            return row_states(subject, steering, Rows(padded(), slots, PROMPTS)), passes
        finally:
            hook.remove()


def check(subject, found):
    for number, end in enumerate(ENDS):
        length = len(BEGINNING) + len(end)
        # Another batch shape reorders float32 sums.
        torch.testing.assert_close(found[number, :length], alone(subject, number), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "family"), [*((shared, family) for family in FAMILIES), *((sliding, family) for family in SLIDING)]
)
def test_every_row_is_as_if_run_by_itself(make, family):
    """Also where attention's window is shorter than the beginning."""
    subject = make(family)
    with row_slots(subject, EACH) as (steering, slots):
        found = row_states(subject, steering, Rows(padded(), slots, PROMPTS))
    check(subject, found)


def test_the_beginning_is_run_once_for_each_intervention(monkeypatch):
    subject = shared()
    passes = []
    forward = subject.decoder.forward

    def counting(*args, **kwargs):
        passes.append(tuple(kwargs["input_ids"].shape))
        return forward(*args, **kwargs)

    monkeypatch.setattr(subject.decoder, "forward", counting)
    with row_slots(subject, EACH) as (steering, slots):
        row_states(subject, steering, Rows(padded(), slots, PROMPTS))
        assert passes == [(4, len(BEGINNING)), (5, 4)]  # two of the five rows have the same intervention: none
        passes.clear()
        row_states(subject, steering, Rows(padded()[:, SHORTEST_SHARED:], slots, [7] * 5))
        assert passes == [(5, len(BEGINNING) - SHORTEST_SHARED + 4)], "too little is shared"
        passes.clear()
        row_states(subject, steering, Rows(padded(), slots, [3] * 5))
        assert passes == [(5, len(BEGINNING) + 4)], "what is shared goes beyond the prompts"
    monkeypatch.undo()


def test_steering_of_the_callers_sees_whole_rows():
    subject = shared()
    outer = Scale(CIRCUIT, 1.0, when="generated")
    with steer(subject, outer):
        found = row_states(subject, None, Rows(padded(), [0] * len(ENDS), PROMPTS))
        plain = hidden_states(subject, padded())
    torch.testing.assert_close(found, plain, rtol=0, atol=0)


def test_nothing_is_shared_where_another_hook_looks_on():
    subject = shared()
    seen, passes = together(subject)
    check(subject, seen)
    assert passes == [(5, len(BEGINNING) + 4)], "another watcher: nothing is shared"
