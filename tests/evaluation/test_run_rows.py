"""Rows of a run's folder: typed, checked when read, as old files have them."""

import json
from typing import Any

import pytest

from neurodial.errors import FileError
from neurodial.evaluation.run_rows import (
    ControlRow,
    GenerationRow,
    MarginRow,
    MeasureRow,
    MmluRow,
    MmluSetRow,
    PerTextRow,
    QuestionsRow,
    SpeedRow,
    TaskRow,
    TuningRow,
    VerdictRow,
)
from neurodial.evaluation.store import Store, read_rows

ROWS: list[Any] = [
    GenerationRow("unsteered", "neutral", 0, "Tea?", "Yes\u2028please.", "Hm.", endless=True, tokens=3, finished=False),
    VerdictRow("refusal", "mine @ 1", "behaviour", 2, "degenerate", score=0.5, reason="loop"),
    TuningRow("caa", {"layer": 3, "within_kl_limit": False}),
    PerTextRow("mine @ 1", "kl", (0.5, 0.25), (8, 9)),
    MarginRow("mine @ 1", "margin", (-1.5,), is_opener=True),
    QuestionsRow("mine @ 1", "questions", (True, False), (-1.0, -2.0)),
    SpeedRow("mine @ 1", "speed", (1.0, 1.5), 1.25),
    ControlRow("unsteered", "control", -0.1, 0.03, -2.0, -1.0, 0.25, above_chance=True, shows_damage=True),
    TaskRow("mine @ 1", "task:tiny", "tiny", "acc,none", 0.5, 0.1, 9, "1.0"),
    MeasureRow("mine @ 1", "harness:tiny"),
    MmluSetRow("", "mmlu:set", "test.jsonl", "a" * 8, 9, 9, 3, 1, {"physics": 0}, 0, 0.25),
    MmluRow("mine @ 1", "mmlu", (True,), (False,), (True,), (2,), 0, {"letter": (-1.0,), "text": (-2.0,)}),
]
OLD = {
    "generations": '{"arm": "unsteered", "set": "behaviour", "index": 0, "prompt": "p", "answer": "a",'
    ' "thinking": null, "endless": false, "tokens": 4, "finished": true}',
    "verdicts": '{"detector": "refusal", "arm": "mine @ 1", "set": "behaviour", "index": 0, "label": "shown",'
    ' "score": null, "reason": ""}',
    "measures": '{"kind": "TaskResult", "task": "tiny", "measure": "task:tiny", "value": 0.5, "stderr": 0.1, "n": 9,'
    ' "version": "1", "arm": "unsteered", "metric": "acc,none"}',
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: type(row).__name__)
def test_a_row_is_read_as_it_was_written(tmp_path, row):
    folder = tmp_path / "run"
    Store(folder, {"run": 1}).append([row])
    again = Store(folder, {"run": 1})
    [found] = again.rows(MeasureRow if isinstance(row, MeasureRow) else type(row))
    assert found == row
    assert type(found) is type(row)
    again.append([row])
    assert read_rows(folder, MeasureRow if isinstance(row, MeasureRow) else type(row)) == [row, row]


def test_files_keep_their_names(tmp_path):
    Store(tmp_path / "run", {}).append([ROWS[0]])
    written = json.loads((tmp_path / "run" / "generations.jsonl").read_text())
    assert written["arm"] == "unsteered"
    assert "condition" not in written


@pytest.mark.parametrize(
    ("name", "kind"), [("generations", GenerationRow), ("verdicts", VerdictRow), ("measures", MeasureRow)]
)
def test_rows_of_earlier_versions_are_read(tmp_path, name, kind):
    (tmp_path / f"{name}.jsonl").write_text(OLD[name] + "\n")
    [row] = read_rows(tmp_path, kind)
    assert row.condition in {"unsteered", "mine @ 1"}


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ('{"arm": "x", "set": "neutral", "index": "two", "prompt": "p", "answer": "a"}', "line 1.*index"),
        ('{"arm": "x", "set": "neutral", "index": 0, "prompt": "p"}', "answer"),
        ('{"arm": "x", "set": "neutral", "index": 0, "prompt": "p", "answer": "a", "mood": 1}', "mood"),
        ("[1]", "no JSON object"),
        ("{torn", "no JSON"),
    ],
)
def test_what_is_no_row_is_refused_with_its_line(tmp_path, line, match):
    (tmp_path / "generations.jsonl").write_text(line + "\n")
    with pytest.raises(FileError, match=match):
        read_rows(tmp_path, GenerationRow)


def test_an_unknown_measure_is_refused(tmp_path):
    (tmp_path / "measures.jsonl").write_text('{"arm": "x", "measure": "charm", "values": [1]}\n')
    with pytest.raises(FileError, match="'charm'"):
        read_rows(tmp_path, MeasureRow)
