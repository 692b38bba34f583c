"""The study of a behaviour on a tiny model: every row is measured, the budget is kept, and a finished row stays."""

import importlib
import json
import re
from itertools import product
from pathlib import Path
from statistics import fmean

import pytest

from neurodial.methods.selections import DOSINGS, SELECTIONS

STUDIES = Path(__file__).resolve().parents[2] / "studies"
OPTIONS = [
    "--dtype", "float32", "--count", "6", "--counts", "2", "--budgets", "0.01", "0.05", "--generate", "0.05",
    "--seeds", "0", "1", "--development", "4", "--coarse", "2", "--passages", "3", "--prompts", "5", "--neutral", "3",
    "--tokens", "4", "--threads", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def study(place):
    """Runs the study's command and gives its rows by key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(STUDIES))
        frontier = importlib.import_module("frontier")

        def run(name, *options):
            command = [
                "frontier.py", str(place / "model"), "--behaviour", str(place / "answering.toml"),
                "--neutral-prompts", str(place / "neutral.jsonl"), "-o", str(place / name), *OPTIONS, *options,
            ]  # fmt: skip
            patch.setattr("sys.argv", command)
            frontier.main()
            lines = (place / name / "rows.jsonl").read_text().splitlines()
            return {frontier.Key(**row["key"]): row for row in map(json.loads, lines)}

        run.frontier = frontier
        run.tables = importlib.import_module("tables")
        yield run


@pytest.fixture(scope="module")
def removed(study):
    return study("removed", "--credit")


def test_every_row_is_there_and_within_its_budget(study, removed):
    ways = {(key.method, key.dosing) for key in removed}
    assert ways >= set(product(SELECTIONS, DOSINGS))
    for key, row in removed.items():
        if "test" in row and key.budget:
            assert row["development"]["divergence"] <= key.budget, key
        if "test" in row:
            assert len(row["test"]["margins"]) == 5
    failed = {key.method for key, row in removed.items() if "test" not in row}
    assert failed == {"cna-reference", "single"}  # which ask for 1600 neurons, and for openers


def test_margins_are_weighed_by_the_behaviours_own_detector(place, removed):
    about = json.loads((place / "removed" / "study.json").read_text())
    assert "detector" in about["material"]["judged_by"]


def test_dose_does_what_it_is_for(study, removed):
    key = study.frontier.Key
    unsteered = fmean(removed[key("none", "-", 0, 0.0, 0)]["test"]["margins"])
    for method in ("dose", "dose-both", "caa"):
        dosing, count = ("-", 0) if method == "caa" else ("closed", 6)
        assert fmean(removed[key(method, dosing, count, 0.05, 0)]["test"]["margins"]) < unsteered


def test_seeds_draw_their_own_prompts(study, removed):
    key = study.frontier.Key
    first, second = (removed[key("caa", "-", 0, 0.05, seed)]["test"]["margins"] for seed in (0, 1))
    assert first != second


def test_a_finished_row_is_not_computed_again_and_a_missing_one_comes_out_the_same(study, place, removed):
    file = place / "removed" / "rows.jsonl"
    before = file.read_text()
    lines = before.splitlines()
    marked = json.loads(lines[0]) | {"mark": "kept"}
    file.write_text("\n".join([json.dumps(marked), *lines[1:4], *lines[5:]]) + "\n")
    again = study("removed", "--credit")
    assert again.keys() == removed.keys()
    assert again[study.frontier.Key(**marked["key"])]["mark"] == "kept"
    lost = study.frontier.Key(**json.loads(lines[4])["key"])
    assert again[lost]["test"]["margins"] == pytest.approx(removed[lost]["test"]["margins"], abs=1e-4)
    file.write_text(before)


def test_inducing_goes_the_other_way_on_the_other_prompts(study, removed):
    rows = study("induced", "--direction", "induce")
    key = study.frontier.Key
    assert {one.method for one in rows} >= {"dose", "cna", "caa"}
    assert not {one.method for one in rows} & {"direction", "single"}
    unsteered = fmean(rows[key("none", "-", 0, 0.0, 0)]["test"]["margins"])
    for method in ("dose", "dose-both"):
        assert fmean(rows[key(method, "closed", 6, 0.05, 0)]["test"]["margins"]) > unsteered
    assert (
        rows[key("none", "-", 0, 0.0, 0)]["test"]["margins"] != removed[key("none", "-", 0, 0.0, 0)]["test"]["margins"]
    )


def test_the_margin_can_be_the_models_own_answers(study, place, removed):
    rows = study("own-answers", "--margin", "own-answers", "--seeds", "0", "--budgets", "0.05")
    key = study.frontier.Key
    about = json.loads((place / "own-answers" / "study.json").read_text())
    assert (about["arguments"]["margin"], about["material"]["margin"]) == ("own-answers", "OwnAnswerMargin")
    first, second = (found[key("none", "-", 0, 0.0, 0)]["test"]["margins"] for found in (rows, removed))
    assert first != second
    assert fmean(rows[key("dose", "closed", 6, 0.05, 0)]["test"]["margins"]) < fmean(first)
    searched = [row["development"] for row in rows.values() if "development" in row]
    assert all("reference" in row["development"] for one, row in rows.items() if one.budget and "development" in row)
    assert "test" in rows[key("cna", "zero", 6, 0.0, 0)]  # which keeps to no limit
    assert {row["follows"] for row in searched if "follows" in row} <= {"margin", "margin and reference", "reference"}
    assert len([row for row in searched if "follows" in row]) >= 4
    assert all("reference" not in row["development"] for row in removed.values() if "development" in row)


def test_broken_answers_can_be_limited(study, removed):
    """The tiny model's answers are noise, most of them broken; what keeps to no budget keeps to no limit either."""
    rows = study("limited", "--main", "--max-degenerate", "0.5", "--seeds", "0")
    searched = {one: row["development"] for one, row in rows.items() if "development" in row}
    assert all(("degenerate" in found) == (one.budget > 0) for one, found in searched.items())
    assert all(("broken" in found) == (one.budget > 0) for one, found in searched.items())
    assert any(one.budget for one in searched)
    assert not any("degenerate" in row["development"] for row in removed.values() if "development" in row)


def test_the_main_rows_can_be_asked_for_alone(study, removed):
    rows = study("main", "--main")
    assert {(one.method, one.count) for one in rows} == {
        ("none", 0), ("dose", 6), ("dose-both", 6), ("cna", 6), ("caa", 0), ("direction", 0)
    }  # fmt: skip
    assert rows.keys() < removed.keys()


def test_the_tables_hold_the_rows(study, place, removed):
    study("induced", "--direction", "induce")
    folder, key = place / "removed", study.frontier.Key
    rows = study.tables.Rows(folder)
    [tuned] = [row for row in rows.of(study.tables.TUNED, budget=0.01, count=6) if row["key"]["seed"] == 0]
    both = [removed[key(method, "closed", 6, 0.01, 0)] for method in ("dose", "dose-both")]
    assert tuned["development"]["margin"] == min(row["development"]["margin"] for row in both)
    cell = f"{fmean(removed[key('cna', 'zero', 2, 0.0, 0)]['test']['margins']):+.2f} at "
    assert cell in study.tables.sparsity(folder)
    assert study.tables.credit(folder).count("\n") == 1 + len(study.tables.SELECTIONS)
    assert " – |" not in study.tables.credit(folder)
    assert "| Dose |" in study.tables.headline(folder)
    assert "multiplied by 2" in study.tables.headline(place / "induced")
    assert study.tables.budgets(folder).splitlines()[0] == "| method | budget 0.01 | budget 0.05 |"


def test_the_bill_comes_first_and_alone_where_asked(study, place, capsys):
    with pytest.raises(FileNotFoundError):
        study("planned", "--plan")
    assert "tokens generated or read for it" in capsys.readouterr().out
    assert not (place / "planned").exists()


def test_the_bill_knows_what_makes_a_study_dear(study, capsys):
    def tokens(*options):
        with pytest.raises(FileNotFoundError):
            study("planned", "--plan", "--main", *options)
        return float(re.search(r"about ([\d.]+) million", capsys.readouterr().out)[1])

    large = ("--development", "1000", "--passages", "1000")
    plain = tokens(*large)
    assert tokens(*large, "--margin", "own-answers") > 2 * plain
    assert tokens(*large, "--max-degenerate", "0.1") > plain
    assert tokens(*large, "--max-broken", "0.1") == tokens(*large, "--max-degenerate", "0.1")
