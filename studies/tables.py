"""Tables of a study, from its rows.jsonl. For the pages in docs/results, which run these functions.

Shares are of all test prompts, with Wilson's 95 % interval; margins are means over them, with the mean's own; seeds are
shown one by one where each gives a share, and as mean and range otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

NAMES = {
    ("none", "-"): "unsteered",
    ("dose", "closed"): "Dose",
    ("cna", "zero"): "CNA, multiplied by 0 (the paper)",
    ("cna", "uniform"): "CNA, best multiplier",
    ("cna-reference", "zero"): "CNA as its public code, 1600 neurons",
    ("effect", "uniform"): "effect alone, best multiplier",
    ("random", "uniform"): "random neurons, best multiplier",
    ("caa", "-"): "activation addition (CAA)",
    ("direction", "-"): "directional ablation",
    ("single", "-"): "single neuron, pinned",
}
"""Methods in the order of the tables."""


class Rows:
    """The finished rows of one study."""

    def __init__(self, folder: Path | str) -> None:
        lines = (Path(folder) / "rows.jsonl").read_text(encoding="utf-8").splitlines()
        self.rows = [row for row in map(json.loads, lines) if "test" in row]
        about = json.loads((Path(folder) / "study.json").read_text(encoding="utf-8"))
        self.arguments = about["arguments"]

    def of(
        self, way: tuple[str, str], *, budget: float | None = None, count: int | None = None
    ) -> list[dict[str, Any]]:
        """The rows of a way, one for each seed; those without a budget count for any."""
        return [
            row
            for row in self.rows
            if (row["key"]["method"], row["key"]["dosing"]) == way
            and (budget is None or row["key"]["budget"] in (0.0, budget))
            and (count is None or row["key"]["count"] in (0, count) or way[0] in {"single", "cna-reference"})
        ]

    def margins(self, rows: Sequence[dict[str, Any]]) -> list[float]:
        """Each row's mean margin."""
        return [fmean(row["test"]["margins"]) for row in rows]


def headline(folder: Path | str) -> str:
    """Whole answers and margins at the budget at which answers were generated."""
    study = Rows(folder)
    budget, count = study.arguments["generate"], study.arguments["count"]
    lines = []
    for way, name in NAMES.items():
        found = study.of(way, budget=budget, count=count)
        answered = [row["test"] for row in found if "shown" in row["test"]]
        if not answered:
            continue
        first, shares = answered[0]["shown"], [test["shown"]["value"] for test in answered]
        broken = [test["labels"].count("degenerate") / len(test["labels"]) for test in answered]
        damage = [test["divergence"] for test in answered if "divergence" in test]
        lines.append(
            (
                name,
                " / ".join(f"{share:.0%}" for share in shares).replace("%", " %"),
                f"[{first['low']:.0%}, {first['high']:.0%}]".replace("%", " %"),
                " / ".join(f"{share:.0%}" for share in broken).replace("%", " %"),
                _spread(damage, "{:.3f}") if damage else "–",
                _spread(study.margins(found), "{:+.2f}"),
            )
        )
    head = ("method", "shown, by seed", "interval, first seed", "degenerate", "KL on test", "margin")
    return _table(head, lines)


def budgets(folder: Path | str) -> str:
    """The mean margin that each method leaves at each budget, over seeds."""
    study = Rows(folder)
    count, tried = study.arguments["count"], sorted(study.arguments["budgets"])
    lines = []
    for way in (("dose", "closed"), ("caa", "-"), ("direction", "-")):
        cells = []
        for budget in tried:
            found = [row for row in study.of(way, budget=budget, count=count) if row["key"]["budget"] == budget]
            cells.append(f"{_spread(study.margins(found), '{:+.2f}')} at {_damage(found)}" if found else "–")
        lines.append((NAMES[way], *cells))
    return _table(("method", *(f"budget {budget:g}" for budget in tried)), lines)


def sparsity(folder: Path | str) -> str:
    """Margins and KL by number of neurons, with the first seed."""
    study = Rows(folder)
    budget, first = study.arguments["generate"], study.arguments["seeds"][0]
    counts = sorted({study.arguments["count"], *study.arguments["counts"]})
    lines = []
    for way in (("dose", "closed"), ("cna", "zero")):
        cells = []
        for count in counts:
            found = [row for row in study.of(way, budget=budget, count=count) if row["key"]["seed"] == first]
            test = found[0]["test"] if found else {}
            cells.append(f"{fmean(test['margins']):+.2f} at {test['divergence']:.3f}" if test else "–")
        lines.append((NAMES[way], *cells))
    return _table(("method", *(f"{count} neurons" for count in counts)), lines)


def _damage(rows: Sequence[dict[str, Any]]) -> str:
    return f"{fmean(row['test']['divergence'] for row in rows):.3f}"


def _spread(values: Sequence[float], pattern: str) -> str:
    """The mean, and the range where there are several."""
    mean = pattern.format(fmean(values))
    if len(values) < 2 or stdev(values) == 0:
        return mean
    return f"{mean} ({pattern.format(min(values))} to {pattern.format(max(values))})"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
