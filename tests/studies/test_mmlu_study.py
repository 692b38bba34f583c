"""The study of MMLU against the dial on a tiny model: figures, plots, tables, and no place of this machine in them."""

import importlib
import json
from pathlib import Path

import pytest
from tests.subjects import circuit_of

from neurodial.model.tiny import tiny_subject

STUDIES = Path(__file__).resolve().parents[2] / "studies"


def rows(count):
    return [
        {
            "subject": "rivers",
            "question": f"What {n}?",
            "choices": [f"a {n}", f"b {n}", "c", "d"],
            "answer": "ABCD"[n % 4],
        }
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def study():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(STUDIES))
        yield importlib.import_module("mmlu")


@pytest.mark.slow
def test_every_way_stands_at_every_dial(study, tmp_path, capsys):
    subject = tiny_subject(max_position_embeddings=1024)
    subject.model.save_pretrained(tmp_path / "model")
    subject.tokenizer.save_pretrained(tmp_path / "model")
    circuit_of(subject, 4).write(tmp_path / "own.circuit.json")
    data = tmp_path / "questions_of_mine"
    data.mkdir()
    for name, count in (("test", 6), ("dev", 1)):
        (data / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows(count))))
    output = tmp_path / "out"
    assert "not been run yet" in study.tables(output)
    study.main(
        [
            str(tmp_path / "model"), f"own={tmp_path / 'own.circuit.json'}", "--data", str(data), "--questions", "4",
            "--shots", "1", "--dials", "0.5,1", "--against", "random", "--seeds", "3", "--prompts", "2",
            "--new-tokens", "2", "-o", str(output),
        ]
    )  # fmt: skip
    text = (output / "report.json").read_text()
    assert data.name not in text
    report = json.loads(text)
    conditions = {(condition["label"], condition["dial"]): condition["metrics"] for condition in report["arms"]}
    assert {dial for _, dial in conditions} == {0.0, 0.5, 1.0}
    assert len(conditions) == 5
    assert all(metrics["mmlu"]["n"] == 4 for metrics in conditions.values())
    assert (
        report["settings"]["harness"] | {"limit": 4, "fewshot": 1, "tasks": ["mmlu"]} == report["settings"]["harness"]
    )
    for name in study.PLOTS:
        assert (output / f"{name}.svg").read_text().startswith("<svg")
    assert ">chance<" in (output / "letters.svg").read_text()
    assert ">chance<" not in (output / "right_text.svg").read_text()
    tables = study.tables(output)
    assert tables in capsys.readouterr().out
    assert "positive control" in tables
    assert f"| own | 0.5 | {100 * conditions['own', 0.5]['rate:refusal']['value']:.0f} %" in tables
