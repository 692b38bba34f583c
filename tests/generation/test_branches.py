"""Rows that share beginnings: the same states as each row by itself, each beginning run once."""

import pytest
import torch
from tests.subjects import FAMILIES, SLIDING, circuit_of, close, differ, shared, sliding

from neurodial.activations.batches import runs_by_length
from neurodial.generation.branches import Branch, branch_states
from neurodial.generation.per_row import row_slots
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.model.head import hidden_states
from neurodial.model.hooks import on_forward

LONG, OTHER = tuple(range(20, 44)), tuple(range(60, 78))
ROWS = (
    ((*LONG, 3, 4, 5), (*LONG, 6), (*LONG, 3, 9, 9, 9)),
    ((*OTHER, 4, 4), (*OTHER, 7, 8, 1, 2, 3, 4, 5, 6)),
    ((30, 31, 32),),
)


def branches_for(slots):
    """Every set of rows under every slot; prompts are what is shared, whose last token each row reads again."""
    lengths = (len(LONG), len(OTHER), 2)
    return [
        Branch(rows, (length,) * len(rows), slot) for slot in slots for rows, length in zip(ROWS, lengths, strict=True)
    ]


def interventions(subject):
    circuit = circuit_of(subject, 8, dose=1.5)
    return [None, Scale(circuit, 1.0), Scale(circuit, -1.0, when="prompt"), Scale(circuit, 1.0, when="generated")]


def alone(subject, intervention, branch, row):
    """Oracle: the row's tokens in one pass, without padding, under its intervention alone."""
    tokens = torch.tensor([branch.rows[row]])
    with torch.no_grad(), row_slots(subject, [intervention]) as (steering, slots):
        if steering is not None:
            steering.assign(slots)
            steering.mark_prompts([branch.prompts[row]])
        return hidden_states(subject, tokens)[0]


@pytest.mark.parametrize("budget", [4096, 40])
@pytest.mark.parametrize(
    ("make", "family"), [*((shared, family) for family in FAMILIES), *((sliding, family) for family in SLIDING)]
)
def test_every_row_is_as_if_run_by_itself(make, family, budget):
    subject = make(family)
    each = interventions(subject)
    seen = []
    with row_slots(subject, each) as (steering, slots):
        branches = branches_for(slots)
        found = list(branch_states(subject, steering, branches, budget=budget))
    for ends in found:
        for place, (number, row) in enumerate(ends.rows):
            branch = branches[number]
            expected = alone(subject, each[branch.slot], branch, row)[ends.start :]
            # Another batch shape reorders float32 sums.
            torch.testing.assert_close(ends.hidden[place, : len(expected)], expected, rtol=1e-4, atol=1e-4)
            assert ends.start < branch.prompts[row]
            seen.append((number, row))
    assert sorted(seen) == [(n, row) for n, branch in enumerate(branches) for row in range(len(branch.rows))]


def test_the_interventions_differ():
    subject = shared()
    branch = branches_for([0])[0]
    states = [alone(subject, one, branch, 0) for one in interventions(subject)]
    for number, first in enumerate(states):
        for second in states[number + 1 :]:
            differ(first, second)


def passes_of(subject, slots_given):
    passes = []
    with row_slots(subject, slots_given) as (steering, slots):
        hook = on_forward(subject, lambda rows, tokens, cached: passes.append((rows, tokens, cached)))
        try:
            list(branch_states(subject, steering, branches_for(sorted(set(slots)))[:1]))
        finally:
            hook.remove()
    return passes


def test_a_beginning_is_run_once(monkeypatch):
    """All but the prompt's last token once, then three rows of up to five tokens: 23 + 3 * 5 instead of 3 * 28."""
    monkeypatch.setattr("neurodial.generation.states.is_steered_elsewhere", lambda *_: False)  # the hook that looks
    assert passes_of(shared(), [None]) == [(1, 23, 0), (3, 5, 23)]


def test_inside_a_callers_steering_the_same_states_come():
    subject = shared()
    outer = Scale(circuit_of(subject, 5, dose=2.0), 1.0)
    branch = branches_for([0])[0]
    with steer(subject, outer):
        found = [(ends, row) for ends in branch_states(subject, None, [branch]) for row in range(len(ends.rows))]
        for ends, row in found:
            _, number = ends.rows[row]
            expected = alone(subject, None, branch, number)[ends.start :]
            close(ends.hidden[row, : len(expected)], expected)
    assert all(ends.start == 0 for ends, _ in found)


def test_batches_keep_the_budget_and_waste_little():
    lengths = [90, 88, 50, 49, 48, 10, 9, 9]
    runs = list(runs_by_length(lengths, budget=200))
    assert [number for run in runs for number in run] == list(range(len(lengths)))
    assert all(len(run) * lengths[run[0]] <= 200 for run in runs)
    assert len(list(runs_by_length(lengths, budget=10_000))) < len(runs)
    assert list(runs_by_length([], budget=9)) == []
