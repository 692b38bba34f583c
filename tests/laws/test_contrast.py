"""Law 4: swapping the sides negates; order and repetition change nothing; a neuron planted by hand is found first."""

import dataclasses
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.planting import PLANTED, negative, planted, positive
from tests.subjects import FAMILIES, SOME_FAMILIES, close, differ, prompts, shared

import neurodial as nd
from neurodial.activations.statistics import GroupedMoments
from neurodial.circuit.site import Site
from neurodial.methods.cna.attribute import attribute
from neurodial.methods.cna.contrastive import auroc, delta_scores

SCORES = ["delta", "standardised", "auroc"]
CONTRAST = nd.Contrast.of(prompts(7), [f"other {n}" for n in range(6)])


def method(**options):
    return nd.CNA(universal=None, select=nd.Count(5), **options)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("family", SOME_FAMILIES)
def test_swapping_the_sides_negates_every_score(family, score):
    subject = shared(family)
    forth = attribute(subject, CONTRAST, method(score=score)).scores.flat()
    back = attribute(subject, CONTRAST.swapped(), method(score=score)).scores.flat()
    close(back.float(), -forth.float())
    differ(back, forth)


def test_swapping_keeps_the_circuit_and_exchanges_the_signs():
    subject = shared()
    forth, back = (attribute(subject, c, method()).rows for c in (CONTRAST, CONTRAST.swapped()))
    assert [row.neuron for row in forth] == [row.neuron for row in back]
    positive_rows = attribute(subject, CONTRAST, method(sign="positive")).rows
    negative_rows = attribute(subject, CONTRAST.swapped(), method(sign="negative")).rows
    assert [row.neuron for row in positive_rows] == [row.neuron for row in negative_rows]
    assert {row.neuron for row in positive_rows}.isdisjoint(
        row.neuron for row in attribute(subject, CONTRAST, method(sign="negative")).rows
    )


@pytest.mark.parametrize("score", SCORES)
def test_the_order_of_the_prompts_changes_nothing(score):
    subject = shared()
    shuffled = dataclasses.replace(
        CONTRAST,
        positive=tuple(random.Random(1).sample(CONTRAST.positive, len(CONTRAST.positive))),
        negative=tuple(random.Random(2).sample(CONTRAST.negative, len(CONTRAST.negative))),
    )
    assert shuffled != CONTRAST
    first, second = (attribute(subject, c, method(score=score)) for c in (CONTRAST, shuffled))
    close(first.scores.flat().float(), second.scores.flat().float())
    assert [row.neuron for row in first.rows] == [row.neuron for row in second.rows]
    assert first.stability == second.stability


def statistics(values, sides, *, score):
    """Scores of one site from activations (prompt, neuron) and the side of each prompt."""
    moments = GroupedMoments(sides, 2)
    for row in range(len(sides)):  # a batch each
        moments.add(Site(0), values[row : row + 1], (row,))
    return delta_scores(moments, [Site(0)], [0], [1], score=score)[Site(0)]


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_statistics_neither_see_order_nor_repetition(data):
    first, second = data.draw(st.integers(2, 8)), data.draw(st.integers(2, 8))
    times = data.draw(st.integers(2, 4))
    values = torch.randn(first + second, 5, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    sides = [0] * first + [1] * second
    order = data.draw(st.permutations(range(first + second)))
    moved, moved_sides = values[list(order)], [sides[place] for place in order]
    exact = {"rtol": 1e-9, "atol": 1e-9}
    delta = statistics(values, sides, score="delta")
    for score in ("delta", "standardised"):
        expected = statistics(values, sides, score=score)
        torch.testing.assert_close(statistics(moved, moved_sides, score=score), expected, **exact)
        torch.testing.assert_close(statistics(values, [1 - side for side in sides], score=score), -expected, **exact)
    repeated = statistics(values.repeat(times, 1), sides * times, score="delta")
    torch.testing.assert_close(repeated, delta, **exact)
    area = auroc(values[:first], values[first:])
    torch.testing.assert_close(auroc(values[:first].repeat(times, 1), values[first:].repeat(times, 1)), area, **exact)
    torch.testing.assert_close(auroc(values[first:], values[:first]), -area, **exact)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_planted_neuron_is_found_first(family):
    subject = planted(family)
    contrast = nd.Contrast.of(positive(), negative())
    found = attribute(subject, contrast, method())
    assert found.rows[0].neuron == PLANTED
    assert found.rows[0].score > 1.5 * abs(found.rows[1].score)
    assert attribute(subject, contrast.swapped(), method(sign="negative")).rows[0].neuron == PLANTED
    assert PLANTED not in {row.neuron for row in attribute(subject, contrast, method(sign="negative")).rows}
    assert PLANTED not in {row.neuron for row in attribute(subject, contrast, method(skip_layers=(1,))).rows}


def test_nothing_is_found_where_nothing_was_planted():
    """A contrast that the planted neuron does not know leaves it where it was, among the others."""
    subject = planted("llama")
    other = attribute(subject, nd.Contrast.of(positive()[::2], positive()[1::2]), method())
    assert other.rows[0].neuron != PLANTED


def test_a_planted_neuron_separates_the_sides_completely():
    subject = planted("llama")
    contrast = nd.Contrast.of(positive(), negative())
    assert float(attribute(subject, contrast, method(score="auroc")).scores[Site(1)][PLANTED.index]) == 0.5
    standardised = attribute(subject, contrast, method(score="standardised")).scores[Site(1)]
    assert int(standardised.argmax()) == PLANTED.index


def test_ablating_the_planted_neuron_takes_its_write_away():
    """What was found is what the model uses: its column of the down projection, times its activation, is gone."""
    subject = planted("llama")
    circuit = nd.discover(subject, nd.Contrast.of(positive(), negative()), method=method(), select=nd.Count(1))
    assert circuit.neurons == {PLANTED}
    row = torch.tensor([subject.tokenizer(positive()[0])["input_ids"]])
    layer, seen, written = subject.blocks[PLANTED.layer].mlp, [], []
    first = layer.down_proj.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    second = layer.register_forward_hook(lambda module, args, output: written.append(output))
    try:
        with torch.no_grad():
            subject.model(row)
            with nd.steer(subject, nd.Scale(circuit)):
                subject.model(row)
    finally:
        first.remove()
        second.remove()
    share = seen[0][0, -1, PLANTED.index] * layer.down_proj.weight[:, PLANTED.index]
    close(written[0][0, -1] - written[1][0, -1], share.detach())
    differ(written[0][0, -1], written[1][0, -1])
