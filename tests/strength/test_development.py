"""What is measured on the development split, against each measure taken alone."""

from typing import NamedTuple

import pytest
from tests.subjects import shared
from tests.tolerance import of_margins

import neurodial as nd
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import measure_divergence, own_answers
from neurodial.generation.generate import generate
from neurodial.margins.measure import measure_margins
from neurodial.margins.own_answers import OwnAnswerMargin, find_own_answers
from neurodial.methods.dose.options import Dose
from neurodial.prompts.pairs import Contrast
from neurodial.prompts.passage import Passage
from neurodial.prompts.prompt import Example
from neurodial.strength import development
from neurodial.strength.development import Development
from neurodial.text.degeneration import Brokenness

LOUD = tuple(Example(f"say {n}!", counterpart=f"say {n}?") for n in range(4))
QUIET = tuple(Example(f"say {n}?", counterpart=f"say {n}!") for n in range(4))
STEERED = nd.Scale(nd.Circuit.of([nd.Row(nd.Neuron(0, None, n), 1.0, 2.0) for n in range(12)]))
WEAKLY = nd.Scale(nd.Circuit.of([nd.Row(nd.Neuron(1, None, 3), 1.0, 0.5)]))


class Material(NamedTuple):
    margin: OwnAnswerMargin
    damage: tuple[Passage, ...]


def signs(value):
    """What is seen in an answer that is broken so far."""
    return Brokenness(value, "changed", 0.0, 0, None, 1)


class ChangedByUs:
    """Calls an answer broken by 0.75 where it is not what the model says unsteered, else by a quarter."""

    def __init__(self, prompts, length):
        self.plain = {one.prompt: one.text for one in answers(prompts, length)}

    def measure(self, prompt, answer):
        return signs(0.25 if self.plain[prompt] == answer else 0.75)


def rounding():
    """Of the margins here, which are sums over answers of up to seven tokens."""
    return of_margins(shared(), predictions=7)


def answers(prompts, length, under=None):
    return generate(shared(), prompts, under=under, decoding=Decoding(max_new_tokens=length))


def mean(values):
    return sum(values) / len(values)


@pytest.fixture(scope="module")
def material():
    margin = find_own_answers(shared(), [Contrast.of(LOUD, QUIET)])
    passages = tuple(own_answers(shared(), ["tell me", "well?"], decoding=Decoding(max_new_tokens=5)))
    return Material(margin, passages)


def split(material, **options):
    return Development(shared(), material.margin, LOUD, material.damage, **options)


def test_measures_are_those_taken_alone(material):
    margin = material.margin
    reference = margin.reference("remove")
    damage = measure_divergence(shared(), material.damage, [STEERED, WEAKLY])
    trials = split(material).trials([2.0, 1.0], [STEERED, WEAKLY])
    assert [trial.strength for trial in trials] == [2.0, 1.0]
    for trial, steered, divergence in zip(trials, (STEERED, WEAKLY), damage, strict=True):
        assert trial.margin == pytest.approx(
            mean(measure_margins(shared(), margin, LOUD, under=steered)), abs=rounding()
        )
        assert trial.reference == pytest.approx(
            mean(measure_margins(shared(), reference, LOUD, under=steered)), abs=rounding()
        )
        assert (trial.divergence, trial.error) == pytest.approx((divergence.mean, divergence.standard_error), rel=1e-4)
        assert trial.degenerate is None
    before = split(material).unsteered
    assert before.margin == pytest.approx(mean(measure_margins(shared(), margin, LOUD)), abs=rounding())
    assert before.reference == pytest.approx(mean(measure_margins(shared(), reference, LOUD)), abs=rounding())
    assert split(material).limits(0.1, None).least_reference == before.reference


def test_broken_answers_are_counted_for_each_intervention(material, monkeypatch):
    prompts = [example.prompt for example in LOUD]
    monkeypatch.setattr(development, "_BROKEN", ChangedByUs(prompts, 7))
    expected = []
    for steered in (STEERED, None):
        said, plain = (answers(prompts, 7, under) for under in (steered, None))
        expected.append(mean([a.text != b.text for a, b in zip(said, plain, strict=True)]))
    found = split(material, answer_tokens=7).broken([STEERED, None])
    assert [one.degenerate for one in found] == expected
    assert [one.broken for one in found] == [0.25 + 0.5 * share for share in expected]
    assert expected[0] > 0 == expected[1]


def test_a_system_message_stands_before_every_prompt(material, monkeypatch):
    said = {}

    class Hears:
        def measure(self, prompt, answer):
            said[prompt] = answer
            return signs(0.0)

    monkeypatch.setattr(development, "_BROKEN", Hears())
    with_system = split(material, system="Whisper.", answer_tokens=7)
    with_system.broken([STEERED])
    prompts = [example.prompt for example in LOUD]
    decoding = Decoding(max_new_tokens=7, system="Whisper.")
    assert list(said.values()) == [one.text for one in generate(shared(), prompts, under=STEERED, decoding=decoding)]
    assert list(said.values()) != [one.text for one in answers(prompts, 7, STEERED)]
    [(margin, _)] = with_system.means(LOUD, [STEERED])
    found = measure_margins(shared(), material.margin, LOUD, under=STEERED, system="Whisper.")
    assert margin == pytest.approx(mean(found), abs=rounding())


def test_the_limit_is_against_the_unsteered_model(material, monkeypatch):
    class Half:
        def measure(self, prompt, answer):
            return signs(0.5 if prompt in {"say 1!", "say 3!"} else 0.25)

    monkeypatch.setattr(development, "_BROKEN", Half())
    assert split(material, max_degenerate=0.25).limits(0.1, None).max_degenerate == 0.75
    assert split(material, max_broken=0.125).limits(0.1, None).max_broken == 0.5
    assert split(material, max_broken=0.125).limits(0.1, None).max_degenerate is None
    assert split(material).limits(0.1, None).max_degenerate is None
    assert split(material).unsteered.degenerate is None


def test_another_language_is_not_broken_and_a_loop_is():
    german = "Man nimmt ein Ei und legt es für acht Minuten in das Wasser."
    assert development._BROKEN.find("How do I boil an egg?", german) is None
    assert development._BROKEN.find("How do I boil an egg?", "boil it, boil it, boil it, boil it, boil it") == "looping"


def test_discovery_goes_as_far_as_answers_hold(material, monkeypatch, tmp_path):
    """With every changed answer called broken, doses stop where the answers to development prompts are unchanged."""
    path = tmp_path / "plain.txt"
    path.write_text("\n".join(f"tell me {number}" for number in range(8)))
    pairs = nd.PairSet.of(
        [Example(f"harm {n}?", positive_answer="no", negative_answer="yes, so") for n in range(14)],
        [Example(f"help {n}!", positive_answer="no", negative_answer="yes, so") for n in range(14)],
    )
    about = [example.prompt for example in pairs.development.positive]
    monkeypatch.setattr(development, "_BROKEN", ChangedByUs(about, 6))
    options = {"select": nd.Count(5), "neutral": str(path), "answer_tokens": 6, "folds": 0, "budget": 0.3}
    options |= {"margin": "answer", "sign": "positive"}
    free, held = (
        nd.discover(shared(), pairs, method=Dose(max_degenerate=most, **options)) for most in (None, 0.0)
    )  # fmt: skip
    said, kept, plain = (answers(about, 6, under) for under in (nd.Scale(free), nd.Scale(held), None))
    assert [one.text for one in kept] == [one.text for one in plain] != [one.text for one in said]
    measured = held.origin.report.measured
    assert (measured.degenerate_before, measured.degenerate) == (0.0, 0.0)
    assert free.origin.report.measured.margin < measured.margin < measured.margin_before
    assert any(trial.degenerate for trial in held.origin.report.trials)
    assert free.origin.report.measured.degenerate is None
    lenient = nd.discover(shared(), pairs, method=Dose(max_degenerate=1.0, **options))
    assert lenient.rows == free.rows
    there = lenient.origin.report.measured
    assert there.degenerate == mean([a.text != b.text for a, b in zip(said, plain, strict=True)])
    assert there.broken == 0.25 + 0.5 * there.degenerate
    by_the_mean = nd.discover(shared(), pairs, method=Dose(max_broken=0.0, **options))
    assert by_the_mean.rows == held.rows
    assert (by_the_mean.origin.report.measured.broken_before, by_the_mean.origin.report.measured.broken) == (0.25, 0.25)
    assert there.degenerate_before == 0 < there.degenerate
