"""Conditions on the prompt: what is read, where the threshold lies, and that the circuit then acts there alone."""

import dataclasses

import pytest
import torch
from tests.planting import PLANTED, TEXTS, holding, negative, positive

import neurodial as nd
from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.errors import OptionError, OverlapError, PromptError
from neurodial.evaluation.conditions import refuse_seen
from neurodial.intervention.decide import prompt_readings
from neurodial.methods import find_condition as finding
from neurodial.methods.condition_options import ConditionOptions
from neurodial.methods.find_condition import _with_threshold, find_condition


@pytest.fixture(scope="module")
def subject():
    return holding("llama")


@pytest.fixture(scope="module")
def pairs():
    """The planted neuron tells these texts apart, and no others for certain."""
    splits = [nd.Contrast.of(positive(TEXTS[n : n + 2]), negative(TEXTS[n : n + 2])) for n in (0, 2, 4)]
    return dataclasses.replace(nd.PairSet.of(positive(), negative()), splits=tuple(splits))


CIRCUIT = Circuit.of([Row(PLANTED, 1.0, 1.0), Row(Neuron(0, None, 2), 0.1, 1.0)], name="planted")


@pytest.mark.parametrize("reading", ["mean", "projection", "direction"])
def test_a_planted_neuron_tells_prompts_that_were_never_read(subject, pairs, reading):
    found = find_condition(subject, CIRCUIT, pairs, ConditionOptions(reading=reading, false_positive_rate=0.0))
    assert (found.reading, found.negative.holds) == (reading, 0)
    assert found.positive.holds == found.positive.prompts == len(pairs.development.positive)
    assert (found.layer is None) is (reading != "direction")
    test = pairs.test
    sides = [[example.prompt for example in side] for side in (test.positive, test.negative)]
    holds = [(prompt_readings(subject, [found], prompts)[0] > found.threshold).float().mean() for prompts in sides]
    if reading == "projection":
        assert [float(share) for share in holds] == [1.0, 0.0]
        circuit = dataclasses.replace(CIRCUIT, condition=found)
        decoding = nd.Decoding(max_new_tokens=4)
        for prompts, acts in zip(sides, (True, False), strict=True):
            answers = nd.generate(subject, prompts, under=nd.Scale(circuit, 3.0), decoding=decoding)
            steered = nd.generate(subject, prompts, under=nd.Scale(CIRCUIT, 3.0), decoding=decoding)
            plain = nd.generate(subject, prompts, decoding=decoding)
            assert answers == (steered if acts else plain)


def test_the_weights_are_the_differences_between_the_sides(subject, pairs):
    by_sign = find_condition(subject, CIRCUIT, pairs, ConditionOptions(reading="mean"))
    projected = find_condition(subject, CIRCUIT, pairs, ConditionOptions(reading="projection"))
    place = projected.neurons.index(PLANTED)
    assert sorted(abs(weight) for weight in by_sign.weights) == [0.5, 0.5]
    assert sum(weight**2 for weight in projected.weights) == pytest.approx(1.0)
    assert projected.weights[place] == pytest.approx(1.0, abs=0.05), "the planted neuron alone differs"
    assert (by_sign.weights[place] > 0) is (projected.weights[place] > 0)


@pytest.mark.parametrize(
    ("rate", "threshold", "holds"), [(0.0, 4.5, (2, 0)), (0.3, 2.5, (3, 1)), (0.5, 1.75, (3, 2)), (0.9, 0.75, (4, 3))]
)
def test_the_threshold_lies_halfway_to_the_next_reading_above(subject, pairs, monkeypatch, rate, threshold, holds):
    """By hand: the other side's highest readings that may pass are passed over, and no more of them pass."""
    monkeypatch.setattr(finding, "_COUNTED", 0)
    blank = find_condition(subject, CIRCUIT, pairs)
    found = _with_threshold(
        dataclasses.replace(blank, false_positive_rate=rate),
        torch.tensor([1.0, 3.0, 5.0, 6.0], dtype=torch.float64),
        torch.tensor([0.5, 1.5, 2.0, 4.0], dtype=torch.float64),
    )
    assert (found.threshold, (found.positive.holds, found.negative.holds)) == (threshold, holds)


def test_a_share_too_small_to_be_counted_comes_from_the_spread(subject, pairs):
    """1 % of 100 readings is one: the threshold is the 99th percentile of a normal distribution, not the highest."""
    blank = find_condition(subject, CIRCUIT, pairs)
    negative = torch.linspace(-1.0, 1.0, 100, dtype=torch.float64)
    expected = 2.3263479 * float(negative.std())
    positive = torch.tensor([1.1, expected - 1e-3, expected + 1e-3], dtype=torch.float64)
    few = _with_threshold(dataclasses.replace(blank, false_positive_rate=0.01), positive, negative)
    assert few.threshold == pytest.approx(expected)
    assert (few.positive.holds, few.negative.holds) == (1, 0)
    enough = _with_threshold(dataclasses.replace(blank, false_positive_rate=0.05), positive, negative)
    assert enough.negative.holds == 5, "five are counted"


def test_what_cannot_be_told_apart_is_refused(subject, pairs):
    first, second, third = pairs.splits
    turned = dataclasses.replace(pairs, splits=(first, second.swapped(), third))
    with pytest.raises(PromptError, match="can be told from the others"):
        find_condition(subject, CIRCUIT, turned)
    with pytest.raises(OptionError, match="false positive rate is 1"):
        ConditionOptions(false_positive_rate=1.0)


def test_prompts_that_set_a_condition_are_no_test_prompts(subject, pairs):
    circuit = dataclasses.replace(CIRCUIT, condition=find_condition(subject, CIRCUIT, pairs))
    refuse_seen([circuit], [example.prompt for example in pairs.test.positive])
    with pytest.raises(OverlapError, match="used to discover"):
        refuse_seen([circuit], [example.prompt for example in pairs.development.negative])
