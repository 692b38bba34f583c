"""Tables of `experts.json`, for docs/results/experts.md, which runs these functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

MODELS = {"moe": "mixture", "dense": "dense twin"}
WAYS = {
    "unsteered": "unsteered",
    "dose": "Dose",
    "cna": "CNA",
    "random": "random neurons",
    "experts": "whole experts",
    "router": "bias on the router",
}


class Experts:
    """The figures of the study."""

    def __init__(self, path: Path | str) -> None:
        self.value: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))

    def rows(self, part: str, **wanted: Any) -> list[dict[str, Any]]:
        """Rows of a part that have certain values."""
        return [row for row in self.value[part] if all(row.get(name) == one for name, one in wanted.items())]

    def share(self, name: str, *, part: str = "dials", **wanted: Any) -> str:
        """A share of one row, such as `30 % [21, 41]`."""
        [row] = self.rows(part, **wanted)
        return percent(row[name])

    def damage(self, *, part: str = "dials", **wanted: Any) -> str:
        """The damage of one row in nats, with its standard error."""
        [row] = self.rows(part, **wanted)
        return _nats(row["damage"])

    def routing(self) -> str:
        """Visits of each expert at the last token, by side."""
        head = ("layer", "visits on refused subjects, expert 0 to 7", "on the others", "apart", "by chance", "p")
        lines = [
            (
                str(row["layer"]),
                " ".join(map(str, row["positive"])),
                " ".join(map(str, row["negative"])),
                f"{row['apart']:.2f}",
                f"{row['by_chance']:.2f}",
                f"{row['p']:.4f}",
            )
            for row in self.value["routing"]
        ]
        return table(head, lines)

    def dials(self) -> str:
        """Both models, every circuit at every dial, and random neurons."""
        head = (
            "model", "neurons by", "dial", "refuses", "answers", "refuses others", "others right", "margin", "KL",
        )  # fmt: skip
        return table(head, [self._dialled(row) for row in self.value["dials"]])

    def _dialled(self, row: dict[str, Any]) -> Sequence[str]:
        matched = f", by {row['match']}, seed {row['seed']}" if "match" in row else ""
        shares = (row[name] for name in ("refuses", "answers", "refuses_others", "right_others"))
        return (
            MODELS[row["model"]],
            WAYS[row["way"]] + matched,
            f"{row.get('dial', 0):g}",
            *map(percent, shares),
            interval(row["margin"], "{:+.1f}"),
            _nats(row["damage"]),
        )

    def equal(self, model: str) -> str:
        """What each way does within each budget."""
        head = ("budget", "way", "chosen", "refuses", "answers", "others right", "margin", "KL on test")
        rows = sorted(self.rows("equal", model=model), key=lambda row: (row["budget"], list(WAYS).index(row["way"])))
        return table(
            head,
            [
                (
                    f"{row['budget']:g}",
                    WAYS[row["way"]] + ("" if row["keeps"] else " (over the budget)"),
                    _chosen(row["chosen"]),
                    *(percent(row[name]) for name in ("refuses", "answers", "right_others")),
                    interval(row["margin"], "{:+.1f}"),
                    _nats(row["damage"]),
                )
                for row in rows
            ],
        )

    def exports(self) -> str:
        """How far the loaded exports are from the hook."""
        head = ("model", "as", "largest effect of the hook on a margin", "largest difference from the hook")
        lines = [
            (MODELS[row["model"]], row["route"], f"{row['effect']:.1f}", f"{row['difference']:.1e}")
            for row in self.value["exports"]
        ]
        return table(head, lines)

    def visited(self, way: str) -> str:
        """How a circuit's neurons are spread, and how their experts are visited on either side, on average."""
        [row] = self.rows("circuits", model="moe", way=way)
        means = [fmean(pair[side] for pair in row["visits"]) for side in (0, 1)]
        return f"{row['neurons']} neurons in {row['experts']} experts, visited on {means[0]:.0f} and {means[1]:.0f}"

    def mean_share(self, name: str, **wanted: Any) -> str:
        """The mean over rows, such as those of several seeds."""
        return f"{100 * fmean(row[name]['value'] for row in self.rows('dials', **wanted)):.0f} %"


def percent(estimate: dict[str, Any]) -> str:
    """A share with its interval."""
    value, low, high = (100 * estimate[name] for name in ("value", "low", "high"))
    return f"{value:.0f} % [{low:.0f}, {high:.0f}]"


def interval(estimate: dict[str, Any], pattern: str) -> str:
    """A mean with its interval."""
    value, low, high = (pattern.format(estimate[name]) for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _nats(damage: dict[str, Any] | None) -> str:
    return "–" if damage is None else f"{damage['value']:.3f} ± {damage['error']:.3f}"


def _chosen(details: dict[str, Any]) -> str:
    if "bias" in details:
        return f"{details['bias']}, up to {details['largest']:g}"
    if "experts" in details:
        return f"{len(details['experts'])} experts, {details['neurons']} neurons"
    return f"{details['neurons']} neurons"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *lines))
