"""The demonstration on a tiny model: its numbers are those of its answers, its words those of its numbers."""

import json
from dataclasses import replace

import pytest
from tests.subjects import shared

from neurodial.attribution.methods import CNA
from neurodial.errors import OptionError
from neurodial.evaluation.demonstration import SHORT, Profile, Side, demonstrate, findings
from neurodial.evaluation.detectors.base import Verdict
from neurodial.evaluation.report.demonstration import demonstration_json, demonstration_page
from neurodial.evaluation.report.page import render_page
from neurodial.evaluation.statistics import paired_rates, rate
from neurodial.intervention.scale import Scale
from neurodial.measurement.generate import generate
from neurodial.measurement.options import Decoding
from neurodial.prompts.pairs import PairSet

PROFILE = Profile(prompts=3, dials=(-1.0, 0.0, 1.0), decoding=Decoding(max_new_tokens=4, batch_size=8))


@pytest.fixture(scope="module")
def shown():
    return demonstrate(shared(), PairSet.read("refusal"), PROFILE, method=CNA(universal=None))


def test_each_side_holds_the_answers_of_its_dial(shown):
    prompts = [example.prompt for example in (*shown.harmful, *shown.harmless)]
    for dial in PROFILE.dials:
        alone = generate(shared(), prompts, under=Scale(shown.circuit, dial), decoding=PROFILE.decoding)
        assert list(shown.side(dial).answers) == alone
    assert shown.side(0.0).answers != shown.side(1.0).answers


def test_the_prompts_are_those_of_the_test_split_and_the_circuit_of_the_discovery_split(shown):
    pairs = PairSet.read("refusal")
    assert shown.harmful == pairs.test.positive[:3]
    assert shown.harmless == pairs.test.negative[:3]
    assert shown.circuit.origin.prompts["hash"] == pairs.discovery.hash


def test_the_control_is_as_large_and_shares_no_neuron(shown):
    assert shown.control.is_control
    assert shown.control.label == f"{len(shown.circuit)} random neurons, dial 1"


def _with_refusals(side: Side, base: Side | None, harmful: int, refused: list[bool]) -> Side:
    verdicts = tuple(Verdict("shown" if flag else "absent") for flag in refused)
    change = None
    if base is not None:
        change = paired_rates([v.label == "shown" for v in base.verdicts[:harmful]], refused[:harmful])
    return replace(
        side,
        verdicts=verdicts,
        refused_harmful=rate(refused[:harmful]),
        refused_harmless=rate(refused[harmful:]),
        difference=change,
    )


@pytest.mark.parametrize(("left", "words"), [(0, "fell"), (20, "stayed")])
def test_the_words_follow_from_the_numbers(shown, left, words):
    n = 20
    base = _with_refusals(shown.side(0.0), None, n, [True] * n + [False] * n)
    full = _with_refusals(shown.side(1.0), base, n, [number < left for number in range(n)] + [False] * n)
    control = _with_refusals(shown.control, base, n, [True] * n + [False] * n)
    altered = replace(shown, sides=(base, full, control), harmful=(shown.harmful[0],) * n)
    text = " ".join(findings(altered))
    assert f"requests {words} from 100%" in text
    assert ("a clear change" in text) == (left == 0)
    assert ("does more than chance" in text) == (left == 0)


def test_the_page_leaves_answers_to_harmful_prompts_out_unless_asked(shown):
    marked = replace(
        shown,
        sides=tuple(
            replace(side, answers=tuple(replace(answer, text=f"HARM{n}") for n, answer in enumerate(side.answers)))
            for side in shown.sides
        ),
    )
    page = demonstration_page(marked)
    assert "HARM0" not in render_page(page)
    assert "HARM3" in render_page(page)  # the first harmless prompt's
    assert "HARM0" in render_page(page, show_harmful=True)


def test_the_json_holds_the_figures_and_no_answers(shown):
    value = json.loads(demonstration_json(shown))
    assert value["format"] == "neurodial.demo"
    assert [side["dial"] for side in value["sides"]] == [-1.0, 0.0, 1.0, 1.0]
    assert value["sides"][0]["refused_harmful"]["n"] == 3
    assert value["profile"]["decoding"]["max_new_tokens"] == 4
    assert all("answers" not in side for side in value["sides"])


def test_a_profile_without_the_dials_to_compare_is_refused():
    with pytest.raises(OptionError, match="0 and 1 among them"):
        Profile(dials=(0.5, 1.0))
    assert SHORT.prompts < Profile().prompts
