"""The study of base models against their tuned copies: the paper's pairs, and the table of a folder of reports."""

import importlib
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def study(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "studies"))
    return importlib.import_module("base_tuned")


def test_every_pair_is_a_base_and_its_tuned_copy(monkeypatch):
    presets = study(monkeypatch).PRESETS
    assert presets["demo"]["demo"] == ("demo-base", "demo")
    assert len(presets["paper"]) == 8
    assert all(tuned == f"{base}-Instruct" for base, tuned in presets["paper"].values())


def test_the_table_says_what_the_report_says(monkeypatch):
    value = json.loads((ROOT / "docs/results/tuning/demo.json").read_text(encoding="utf-8"))
    table = study(monkeypatch).table(ROOT / "docs/results/tuning").splitlines()
    assert len(table) == 3
    cells = [cell.strip() for cell in table[2].strip("|").split("|")]
    assert cells[0] == "demo"
    assert cells[1].startswith(f"{value['overlap']['shared']} of {value['overlap']['first']} ")
    own = {row["circuit"]: row["margin"] for row in value["transfer"] if row["model"] == "tuned"}
    assert cells[3].split(", ")[0] == f"{own['tuned'] - own['none']:+.2f}"
    assert cells[-1] == value["weights"]["verdict"]
