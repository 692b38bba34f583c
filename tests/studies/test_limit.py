"""The study of the limit: thresholding finds the best neurons of a known problem; every row of a study is measured."""

import importlib.util
import json
import sys
from itertools import combinations
from pathlib import Path

import pytest
import torch

from neurodial.methods.dose.fit import Slope

STUDIES = Path(__file__).resolve().parents[2] / "studies"


@pytest.fixture(scope="module")
def limit():
    specification = importlib.util.spec_from_file_location("limit_study", STUDIES / "limit.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules["limit_study"] = module
    specification.loader.exec_module(module)
    return module


def test_thresholding_finds_the_best_neurons_where_the_closed_form_does_not(limit):
    """Margin linear, damage quadratic: neurons 0 and 1 are best alone, but do the same damage together."""
    effect = torch.tensor([2.0, 1.9, 1.5, 1.4, 0.3], dtype=torch.float64)
    curvature = torch.eye(5, dtype=torch.float64)
    curvature[0, 1] = curvature[1, 0] = 0.95
    curvature[2, 3] = curvature[3, 2] = -0.6
    budget = 0.1

    def reached(chosen):
        own = list(chosen)
        towards = torch.linalg.solve(curvature[own][:, own], effect[own])
        return float(effect[own] @ towards) ** 0.5 * (2 * budget) ** 0.5

    best = max(combinations(range(5), 2), key=reached)
    assert best == (2, 3)

    def slopes(doses):
        bent = curvature @ doses
        return Slope(float(-effect @ doses), float(doses @ bent / 2), -effect, bent)

    start = torch.tensor([0.3, 0.3, 0, 0, 0], dtype=torch.float64)
    doses, way = limit.hard_threshold(
        start, torch.ones(5).double(), slopes, budget=budget, sign=1.0, largest=9.0, steps=15, unsteered=0.0
    )
    assert tuple(doses.nonzero()[:, 0].tolist()) == best
    assert slopes(doses).margin == pytest.approx(-reached(best), rel=1e-3)
    assert slopes(doses).divergence == pytest.approx(budget, rel=1e-3)
    assert len(way) == 16


def test_every_row_is_measured_and_a_finished_one_stays(limit, place, tmp_path, monkeypatch, capsys):
    arguments = [
        *("limit.py", place / "model", "--behaviour", place / "answering.toml", "-o", tmp_path / "out"),
        *("--neutral-prompts", place / "neutral.jsonl", "--count", 4, "--budgets", 0.05, "--steps", 4),
        *("--limit-steps", 3, "--passages", 3, "--prompts", 4, "--neutral", 3, "--threads", 1, "--answer-tokens", 6),
    ]
    monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
    limit.main()
    first = (tmp_path / "out" / "rows.jsonl").read_text()
    found = [json.loads(line) for line in first.splitlines()]
    assert [row["method"] for row in found] == ["none", *limit.METHODS]
    assert all(row["development"]["divergence"] <= 0.05 for row in found[1:])
    margins = {row["method"]: row["development"]["margin"] for row in found[1:]}
    assert margins["fit"] <= margins["closed"]
    assert margins["cna-fit"] <= margins["cna"]
    assert margins["limit"] <= margins["fit"], "what a fit reaches is no more than the limit"
    assert not (tmp_path / "out" / "partial").exists()
    assert "| 0.05 | limit |" in capsys.readouterr().out
    limit.main()
    assert (tmp_path / "out" / "rows.jsonl").read_text() == first
