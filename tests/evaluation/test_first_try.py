"""A first try on a tiny model: what it looks at, finds and measures, what it goes on with, and what it refuses."""

from dataclasses import replace

import pytest
from tests.subjects import shared

from neurodial.circuit.circuit import Circuit
from neurodial.errors import FileError, MarginError, OptionError, PromptError, UnknownNameError
from neurodial.evaluation import first_try
from neurodial.evaluation.detectors.registry import detector
from neurodial.evaluation.first_try import LOOK, circuit_path, claim_try, measured_side, try_behaviour
from neurodial.evaluation.first_try_options import FirstTry
from neurodial.evaluation.results import plain_values
from neurodial.evaluation.run_rows import GenerationRow
from neurodial.evaluation.store import read_rows
from neurodial.methods.cna.options import CNA
from neurodial.methods.dose.options import Dose
from neurodial.options import changed
from neurodial.prompts.pairs import PairSet

SMALL = FirstTry(detectors=("bare:regex:^",), method="cna", found_on=6, prompts=3, answer_tokens=4)


@pytest.fixture(scope="module")
def pairs():
    return PairSet.read("refusal")


@pytest.fixture(scope="module")
def tried(pairs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("try") / "out"
    return try_behaviour(shared(), pairs, SMALL, folder), folder


def test_it_looks_at_both_sides_then_finds_and_measures_on_other_prompts(tried, pairs):
    result, folder = tried
    looked = read_rows(folder / LOOK, GenerationRow)
    assert {row.prompt for row in looked if row.set == "behaviour"} == {e.prompt for e in pairs.test.positive[:3]}
    assert {row.set for row in looked} == {"behaviour", "opposite"}
    assert {row.condition for row in looked} == {"unsteered"}
    assert result.circuit.origin.prompts["hash"] == pairs.discovery.first(6).hash
    labels = [condition.label for condition in result.report.conditions]
    assert labels == ["unsteered", "refusal", f"{len(result.circuit)} random neurons"]
    assert result.report.conditions[1].metrics["kl"].n == 6, "what it costs is measured"
    assert Circuit.read(circuit_path(folder, pairs)).rows == result.circuit.rows


def test_the_same_try_goes_on_with_what_is_finished(tried, pairs, monkeypatch):
    result, folder = tried

    def never(*args, **kwargs):
        raise AssertionError("made again")

    monkeypatch.setattr(first_try, "discover", never)
    monkeypatch.setattr("neurodial.evaluation.answering.generate", never)
    again = try_behaviour(shared(), pairs, SMALL, folder)
    assert again.circuit.rows == result.circuit.rows
    assert plain_values(again.report.conditions) == plain_values(result.report.conditions)


def test_another_try_is_refused_and_replaced_where_that_is_asked_for(tried, pairs, tmp_path):
    claim_try(tmp_path / "x", {"options": 1})
    (tmp_path / "x" / LOOK).mkdir()
    (tmp_path / "x" / "refusal.circuit.json").write_text("{}")
    with pytest.raises(FileError, match="another model, other prompts or other options"):
        claim_try(tmp_path / "x", {"options": 2})
    claim_try(tmp_path / "x", {"options": 1})
    assert (tmp_path / "x" / LOOK).exists()
    claim_try(tmp_path / "x", {"options": 2}, anew=True)
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["try.json"]


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileError, match="holds other files"):
        claim_try(tmp_path, {}, anew=True)
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_where_dose_finds_nothing_cna_does_and_the_report_says_why(pairs, tmp_path, monkeypatch):
    real, methods = first_try.discover, []

    def refuses(*args, method, **kwargs):
        methods.append(type(method))
        if isinstance(method, Dose):
            raise MarginError("No opener tells the sides apart.")
        return real(*args, method=method, **kwargs)

    monkeypatch.setattr(first_try, "discover", refuses)
    result = try_behaviour(shared(), pairs, replace(SMALL, method="dose"), tmp_path / "x")
    assert methods == [Dose, CNA]
    note = "The circuit is of CNA, since Dose found none: No opener tells the sides apart."
    assert note in result.report.notes
    again = try_behaviour(shared(), pairs, replace(SMALL, method="dose"), tmp_path / "x")
    assert methods == [Dose, CNA], "found before"
    assert note in again.report.notes


def test_nothing_to_remove_ends_the_try_before_the_search(pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(first_try, "discover", lambda *args, **kwargs: pytest.fail("searched"))
    never_shown = replace(SMALL, detectors=("regex:this is never said",))
    with pytest.raises(PromptError, match=r"none of the 3 unsteered answers \(\d of them broken"):
        try_behaviour(shared(), pairs, never_shown, tmp_path / "x")
    always_shown = replace(SMALL, detectors=("bare:regex:^",), direction="induce")
    with pytest.raises(PromptError, match="all 3 unsteered answers already"):
        try_behaviour(shared(), pairs, always_shown, tmp_path / "y")


def test_to_induce_the_other_side_is_measured_and_cna_turns_its_neurons_up(pairs, tmp_path):
    options = replace(SMALL, direction="induce", detectors=("bare:regex:^",))
    assert measured_side(pairs, options).measured("test") == pairs.test.negative
    assert FirstTry(direction="induce").dose.direction == "induce"
    result = first_try._by_cna(shared(), pairs.first(6), options, "refusal", first_try.silent)
    assert result.direction == "induce"
    assert {row.dose for row in result} == {-1.0}


def test_options_reach_the_methods_and_wrong_ones_are_refused():
    options = FirstTry(budget=0.2, prompts=5, answer_tokens=7)
    assert options.dose.budget == 0.2
    assert options.evaluation.kl_limit == 0.2
    assert {options.looking.prompts, options.evaluation.prompts} == {5}
    assert {options.looking.decoding.max_new_tokens, options.evaluation.decoding.max_new_tokens} == {7}
    for wrong in ({"budget": 0.0}, {"prompts": 1}, {"found_on": 0}, {"answer_tokens": 0}):
        with pytest.raises(OptionError):
            FirstTry(**wrong)
    with pytest.raises(UnknownNameError, match="Did you mean dose"):
        changed(FirstTry(), {"method": "dosee"})


def test_without_a_detector_one_is_derived_from_the_first_prompts(pairs, monkeypatch):
    asked, made = [], detector("length:short")

    def derived(subject, few, **kwargs):
        asked.append(few)
        return made

    monkeypatch.setattr(first_try, "derived_detector", derived)
    unnamed = replace(pairs, behaviour=replace(pairs.behaviour, detector=""))
    options = replace(SMALL, detectors=())
    assert first_try.detectors_for(shared(), unnamed, options) == (made,)
    assert len(asked[0].discovery.positive) == 6
    assert first_try.detectors_for(shared(), pairs, options) == ()


def test_few_test_prompts_are_told_with_the_width_of_their_interval(tried):
    result, _ = tried
    [note] = [note for note in result.report.notes if "prompts of the behaviour were measured" in note]
    assert note.startswith("3 prompts of the behaviour were measured: the interval of a share is up to 73 points wide")
