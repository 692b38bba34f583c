"""Figures in sentences on the pages are the report's own."""

import importlib
import json
from pathlib import Path

import pytest

STUDIES = Path(__file__).resolve().parents[2] / "studies"
HEAD = "| method | dial | refusal | KL |\n|---|---|---|---|\n"
TABLE = HEAD + (
    "| unsteered | 0 | 80 % [65, 90], n = 40 | – |\n"
    "| caa (block 3, alpha 1) | 1 | 34 % [25, 43], n = 40 | 0.08 [0.07, 0.09], n = 8 |\n"
    "| caa (block 3, alpha 1) | -1 | 90 % [80, 95], n = 40 | 0.1 [0.09, 0.11], n = 8 |\n"
)


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDIES))
    module = importlib.import_module("figures")
    monkeypatch.setattr(module, "read_report", lambda path: path)
    monkeypatch.setattr(module, "markdown_table", lambda report, metrics: TABLE)
    return module


def test_a_figure_is_found_by_method_and_dial(figures):
    report = figures.Figures("report.json", ["rate:refusal", "kl"])
    assert report.of("unsteered", "rate:refusal", 0) == "80 % [65, 90]"
    assert report.of("caa", "rate:refusal") == "34 % [25, 43]"
    assert report.of("caa", "rate:refusal", -1) == "90 % [80, 95]"
    assert report.of("caa", "kl", with_n=True) == "0.08 [0.07, 0.09], n = 8"
    assert (report.n("caa", "rate:refusal"), report.n("caa", "kl")) == (40, 8)
    assert report.of("unsteered", "kl", 0) == "–"


def test_the_demo_table_holds_what_is_at_dial_0_and_1(figures, monkeypatch):
    rows = TABLE.splitlines()[2:]
    monkeypatch.setattr(
        figures, "markdown_table", lambda report, metrics: HEAD + "\n".join(f"{row} 1 |" for row in rows)
    )
    lines = figures.demo_table("report.json").splitlines()
    assert lines[0] == "| on held-out prompts | refuses harmful | refuses harmless | KL, nats per token |"
    assert lines[2:] == ["| unsteered | 80 % [65, 90] | – | 1 |", "| caa | 34 % [25, 43] | 0.08 [0.07, 0.09] | 1 |"]


def row(seed, shown, labels, divergence):
    key = {"method": "caa", "dosing": "-", "count": 0, "budget": 0.1, "seed": seed}
    estimate = {"value": shown, "low": shown - 0.1, "high": shown + 0.1}
    return {"key": key, "test": {"shown": estimate, "labels": labels, "divergence": divergence, "margins": [0.0]}}


def test_shares_are_ranges_over_seeds(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(STUDIES))
    tables = importlib.import_module("tables")
    arguments = {"generate": 0.1, "count": 46}
    (tmp_path / "study.json").write_text(json.dumps({"arguments": arguments}))
    rows = [row(0, 0.42, ["degenerate", "shown"], 0.08), row(1, 0.38, ["absent", "shown"], 0.1)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    caa = ("caa", "-")
    assert tables.shown(tmp_path, caa) == "38 to 42 %"
    assert tables.broken(tmp_path, caa) == "0 to 50 %"
    assert tables.interval(tmp_path, caa) == "[32, 52]"
    assert tables.damage(tmp_path, caa) == "0.090"
    (tmp_path / "rows.jsonl").write_text(json.dumps(rows[0]))
    assert tables.shown(tmp_path, caa) == "42 %"
