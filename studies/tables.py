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

TUNED = ("dose-tuned", "closed")  # of `dose` and `dose-both`, what the development split prefers: what `discover` does
NAMES = {
    ("none", "-"): "unsteered",
    TUNED: "Dose",
    ("dose", "closed"): "Dose, of neurons that hold it up",
    ("dose-both", "closed"): "Dose, of neurons of both kinds",
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

SELECTIONS = {
    "dose": "effect² / cost",
    "dose-both": "effect² / cost, both kinds",
    "effect": "effect",
    "cna": "CNA",
    "cna-standardised": "CNA, standardised",
    "random": "random",
}
DOSINGS = {
    "zero": "multiplied by 0",
    "uniform": "best multiplier",
    "closed": "closed form",
    "full": "joint curvature",  # in the rows of an earlier version
}


class Rows:
    """The finished rows of one study."""

    def __init__(self, folder: Path | str) -> None:
        lines = (Path(folder) / "rows.jsonl").read_text(encoding="utf-8").splitlines()
        self.rows = [row for row in map(json.loads, lines) if "test" in row]
        about = json.loads((Path(folder) / "study.json").read_text(encoding="utf-8"))
        self.arguments = about["arguments"]
        self.induces = self.arguments.get("direction") == "induce"

    def of(
        self, way: tuple[str, str], *, budget: float | None = None, count: int | None = None
    ) -> list[dict[str, Any]]:
        """The rows of a way, one for each seed; those without a budget count for any."""
        if way == TUNED:
            return self._tuned(budget, count)
        return [
            row
            for row in self.rows
            if (row["key"]["method"], row["key"]["dosing"]) == way
            and (budget is None or row["key"]["budget"] in (0.0, budget))
            and (count is None or row["key"]["count"] in (0, count) or way[0] in {"single", "cna-reference"})
        ]

    def _tuned(self, budget: float | None, count: int | None) -> list[dict[str, Any]]:
        """For each budget, count and seed the row that was better on the development split."""
        best: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in (*self.of(("dose", "closed"), budget=budget, count=count),
                    *self.of(("dose-both", "closed"), budget=budget, count=count)):  # fmt: skip
            place = tuple(row["key"][name] for name in ("budget", "count", "seed"))
            if place not in best or self._lack(row) < self._lack(best[place]):
                best[place] = row
        return list(best.values())

    def _lack(self, row: dict[str, Any]) -> float:
        margin = float(row["development"]["margin"])
        return -margin if self.induces else margin

    def name(self, way: tuple[str, str]) -> str:
        """A way in words."""
        return NAMES[way].replace("by 0 (the paper)", "by 2") if self.induces else NAMES[way]

    def margins(self, rows: Sequence[dict[str, Any]]) -> list[float]:
        """Each row's mean margin."""
        return [fmean(row["test"]["margins"]) for row in rows]


def headline(folder: Path | str) -> str:
    """Whole answers and margins at the budget at which answers were generated."""
    study = Rows(folder)
    budget, count = study.arguments["generate"], study.arguments["count"]
    lines = []
    for way in NAMES:
        found = study.of(way, budget=budget, count=count)
        answered = [row["test"] for row in found if "shown" in row["test"]]
        if not answered:
            continue
        first, shares = answered[0]["shown"], [test["shown"]["value"] for test in answered]
        broken = [test["labels"].count("degenerate") / len(test["labels"]) for test in answered]
        damage = [test["divergence"] for test in answered if "divergence" in test]
        lines.append(
            (
                study.name(way),
                " / ".join(f"{share:.0%}" for share in shares).replace("%", " %"),
                f"[{first['low']:.0%}, {first['high']:.0%}]".replace("%", " %"),
                " / ".join(f"{share:.0%}" for share in broken).replace("%", " %"),
                _spread(damage, "{:.3f}") if damage else "–",
                _spread(study.margins(found), "{:+.2f}"),
            )
        )
    head = ("method", "shown, by seed", "interval, first seed", "degenerate", "KL on test", "margin")
    return _table(head, lines)


def overview(folders: Sequence[Path | str]) -> str:
    """What is left of each behaviour, over seeds, and at what damage."""
    ways = [TUNED, ("caa", "-"), ("direction", "-"), ("cna", "zero")]
    lines = []
    for folder in folders:
        study = Rows(folder)
        options = {"budget": study.arguments["generate"], "count": study.arguments["count"]}
        [plain] = study.of(("none", "-"))
        cells = [f"{plain['test']['shown']['value']:.0%}"]
        for way in ways:
            found = study.of(way, **options)
            shares = sorted({f"{row['test']['shown']['value']:.0%}" for row in found}, key=lambda text: int(text[:-1]))
            cells.append(f"{' to '.join(dict.fromkeys((shares[0], shares[-1])))} at {_damage(found)}")
        lines.append((f"`{Path(folder).name}`", *(cell.replace("%", " %") for cell in cells)))
    return _table(("behaviour", "unsteered", *(NAMES[way] for way in ways)), lines)


def shown(folder: Path | str, way: tuple[str, str]) -> str:
    """The share of test answers that show the behaviour under one method, over seeds."""
    tests = [row["test"] for row in _generated(folder, way)]
    return _range([test["shown"]["value"] for test in tests])


def broken(folder: Path | str, way: tuple[str, str]) -> str:
    """The share of test answers that are degenerate under one method, over seeds."""
    tests = [row["test"] for row in _generated(folder, way)]
    return _range([test["labels"].count("degenerate") / len(test["labels"]) for test in tests])


def damage(folder: Path | str, way: tuple[str, str]) -> str:
    """Mean KL on test in nats per token under one method, over seeds."""
    return _damage(_generated(folder, way))


def interval(folder: Path | str, way: tuple[str, str]) -> str:
    """Wilson's 95 % interval of the share shown under one method, with the first seed."""
    first = _generated(folder, way)[0]["test"]["shown"]
    return f"[{100 * first['low']:.0f}, {100 * first['high']:.0f}]"


def budgets(folder: Path | str) -> str:
    """The mean margin that each method leaves at each budget, over seeds."""
    study = Rows(folder)
    count, tried = study.arguments["count"], sorted(study.arguments["budgets"])
    lines = []
    for way in (TUNED, ("dose", "closed"), ("dose-both", "closed"), ("caa", "-"), ("direction", "-")):
        cells = []
        for budget in tried:
            found = [row for row in study.of(way, budget=budget, count=count) if row["key"]["budget"] == budget]
            cells.append(f"{_spread(study.margins(found), '{:+.2f}')} at {_damage(found)}" if found else "–")
        lines.append((study.name(way), *cells))
    return _table(("method", *(f"budget {budget:g}" for budget in tried)), lines)


def sparsity(folder: Path | str) -> str:
    """Margins and KL by number of neurons, with the first seed."""
    study = Rows(folder)
    budget, first = study.arguments["generate"], study.arguments["seeds"][0]
    counts = sorted({study.arguments["count"], *study.arguments["counts"]})
    lines = []
    for way in (TUNED, ("dose", "closed"), ("dose-both", "closed"), ("cna", "zero")):
        cells = []
        for count in counts:
            found = [row for row in study.of(way, budget=budget, count=count) if row["key"]["seed"] == first]
            test = found[0]["test"] if found else {}
            cells.append(f"{fmean(test['margins']):+.2f} at {test['divergence']:.3f}" if test else "–")
        lines.append((study.name(way), *cells))
    return _table(("method", *(f"{count} neurons" for count in counts)), lines)


def credit(folder: Path | str) -> str:
    """Every selection with every dosing: the margin left within the budget, and KL on test, over seeds."""
    study = Rows(folder)
    budget, count = study.arguments["generate"], study.arguments["count"]
    there = {row["key"]["dosing"] for row in study.rows}
    dosings = {dosing: name for dosing, name in DOSINGS.items() if dosing in there}
    lines = []
    for selection, name in SELECTIONS.items():
        cells = []
        for dosing in dosings:
            found = study.of((selection, dosing), budget=budget, count=count)
            cells.append(f"{_spread(study.margins(found), '{:+.2f}')} at {_damage(found)}" if found else "–")
        lines.append((name, *cells))
    return _table(("neurons by", *dosings.values()), lines)


def _generated(folder: Path | str, way: tuple[str, str]) -> list[dict[str, Any]]:
    """The rows of a way at the budget at which answers were generated."""
    study = Rows(folder)
    rows = study.of(way, budget=study.arguments["generate"], count=study.arguments["count"])
    return [row for row in rows if "shown" in row["test"]]


def _range(values: Sequence[float]) -> str:
    ends = dict.fromkeys((f"{100 * min(values):.0f}", f"{100 * max(values):.0f}"))
    return " to ".join(ends) + " %"


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
