"""The demonstration on a tiny model: its numbers are those of its answers, its words those of its numbers."""

import json
from contextlib import contextmanager
from dataclasses import replace

import pytest
from tests.subjects import shared

from neurodial.circuit.selection import Count
from neurodial.errors import FileError, MarginError, OptionError
from neurodial.evaluation import demonstration
from neurodial.evaluation.demonstration import SHORT, Profile, claim, demonstrate, findings
from neurodial.evaluation.intervals import paired_rates
from neurodial.evaluation.options import Evaluation
from neurodial.evaluation.results import PairedComparison
from neurodial.evaluation.run_rows import GenerationRow
from neurodial.evaluation.store import read_rows
from neurodial.evaluation.verdict import verdict
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import generate
from neurodial.intervention.scale import Scale
from neurodial.methods.cna.options import CNA
from neurodial.methods.dose.options import Dose
from neurodial.prompts.pairs import Contrast, PairSet

DECODING = Decoding(max_new_tokens=4, batch_size=8)
SMALL = Evaluation(prompts=3, neutral=2, over_refusal=0, perplexity=2, divergence_tokens=4, decoding=DECODING)
PROFILE = Profile(
    cna=CNA(universal=None, folds=2),
    dose=Dose(budget=0.5, folds=0, draws=1, answer_tokens=4, select=Count(2)),
    dials=(-1.0, 1.0),
    options=SMALL,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "out"
    return demonstrate(shared(), PairSet.read("refusal"), PROFILE, folder), folder


def test_each_condition_holds_the_answers_of_its_circuit(made):
    shown, folder = made
    pairs = PairSet.read("refusal")
    prompts = [example.prompt for example in pairs.test.positive[:3]]
    found = read_rows(folder / "rows", GenerationRow)
    rows = {(row.condition, row.index): row.answer for row in found if row.set == "behaviour"}
    scales = {f"{c.name} @ 1": Scale(c) for c in (*shown.circuits, shown.control)}
    scales["cna @ -1"] = Scale(shown.circuits[0], -1.0)
    for condition, scale in scales.items():
        alone = generate(shared(), prompts, under=scale, decoding=DECODING)
        assert [rows[condition, n] for n in range(3)] == [answer.text for answer in alone]
    assert rows["cna @ 1", 0] != rows["unsteered", 0]


def test_a_short_demo_discovers_on_the_first_prompts_alone(tmp_path):
    pairs = PairSet.read("refusal")
    shown = demonstrate(shared(), pairs, replace(PROFILE, found_on=8), tmp_path / "out")
    first = Contrast(pairs.discovery.positive[:8], pairs.discovery.negative[:8])
    assert {circuit.origin.prompts["hash"] for circuit in shown.circuits} == {first.hash}
    whole = pairs.test.positive[:3]
    asked = {row.prompt for row in read_rows(tmp_path / "out" / "rows", GenerationRow)}
    assert {example.prompt for example in whole} <= asked, "the report is on the test split all the same"


def test_the_circuits_are_of_the_discovery_split_and_the_control_shares_no_neuron(made):
    shown, folder = made
    discovery = PairSet.read("refusal").discovery
    for circuit in shown.circuits:
        assert circuit.origin.prompts["hash"] == discovery.hash
        assert (folder / f"{circuit.name}.circuit.json").exists()
    assert shown.control.name == f"{len(shown.circuits[0])} random neurons"
    assert not {row.neuron for row in shown.control} & {row.neuron for row in shown.circuits[0]}


@pytest.mark.parametrize(("left", "words"), [(0, "fewer under cna"), (20, "no clear difference under cna")])
def test_the_words_follow_from_the_numbers(made, left, words):
    shown, _ = made
    cna, control = shown.circuits[0], shown.control.name
    changes = {"cna": left, "dose": 0}
    pairs = [
        PairedComparison(f"{control} @ 1", f"{name} @ 1", paired_rates([True] * 20, [n < kept for n in range(20)]))
        for name, kept in changes.items()
    ]
    dose = replace(shown.report.condition("cna", 1.0), label="dose")
    report = replace(shown.report, conditions=(*shown.report.conditions, dose), comparisons=tuple(pairs))
    said = findings(replace(shown, circuits=(cna, replace(cna, name="dose")), report=report))
    [against_random] = [sentence for sentence in said if f"against {control}" in sentence]
    assert words in against_random
    assert "fewer under dose" in against_random


def test_the_report_holds_the_findings_and_the_marker_says_finished(made):
    shown, folder = made
    record = json.loads((folder / "demo.json").read_text())
    assert record["finished"] is True
    first, *others = record["findings"]
    assert first == verdict(shown.report)
    assert others == list(shown.report.notes[: len(others)])
    assert 1 < len(others) <= 6, "five sentences, and one where Dose found nothing"
    assert any("With one of 2 parts" in note for note in shown.report.notes)
    assert record["profile"]["dose"]["budget"] == 0.5


def test_a_finished_demo_is_done_again_and_an_unfinished_one_gone_on_with(made, tmp_path, monkeypatch):
    shown, _ = made
    pairs = PairSet.read("refusal")
    calls = []
    plain = demonstration.evaluate

    def breaks(*args, **kwargs):
        plain(*args, **kwargs)
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(demonstration, "evaluate", breaks)
    with pytest.raises(KeyboardInterrupt):
        demonstrate(shared(), pairs, PROFILE, tmp_path / "x")
    monkeypatch.setattr(demonstration, "evaluate", plain)
    before = (tmp_path / "x" / "rows" / "generations.jsonl").read_text()
    again = demonstrate(shared(), pairs, PROFILE, tmp_path / "x")
    assert (tmp_path / "x" / "rows" / "generations.jsonl").read_text() == before
    assert again.report.conditions[0].metrics["rate:refusal"] == shown.report.conditions[0].metrics["rate:refusal"]
    claim(tmp_path / "x", {})
    assert not (tmp_path / "x" / "rows" / "generations.jsonl").exists()


def test_an_unfinished_demo_of_another_profile_is_begun_anew(tmp_path):
    folder = tmp_path / "x"
    claim(folder, {})
    (folder / "rows").mkdir()
    (folder / "rows" / "run.json").write_text("{}")
    shown = demonstrate(shared(), PairSet.read("refusal"), PROFILE, folder)
    assert shown.report.conditions


def test_other_files_are_never_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileError, match="holds other files"):
        claim(tmp_path, {})
    with pytest.raises(FileError, match="is a file"):
        claim(tmp_path / "mine.txt", {})
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_where_dose_finds_nothing_the_demo_says_so(tmp_path, monkeypatch):
    real = demonstration.discover

    def refuses(*args, method, **kwargs):
        if isinstance(method, Dose):
            raise MarginError("No opener tells the sides apart.")
        return real(*args, method=method, **kwargs)

    monkeypatch.setattr(demonstration, "discover", refuses)
    parts = []

    @contextmanager
    def part():
        parts.append("begun")
        yield
        parts.append("done")

    shown = demonstrate(shared(), PairSet.read("refusal"), PROFILE, tmp_path / "x", part=part)
    assert parts == ["begun", "done"] * 3, "CNA, Dose, and answering and measuring, one after the other"
    assert [circuit.name for circuit in shown.circuits] == ["cna"]
    assert "Dose found no circuit on this model: No opener tells the sides apart." in shown.report.notes


def test_a_profile_without_the_dial_to_compare_is_refused():
    with pytest.raises(OptionError, match="1 among them"):
        Profile(dials=(0.5,))
    assert SHORT.options.prompts < Profile().options.prompts
    assert replace(SHORT, control_seed=1) != SHORT
