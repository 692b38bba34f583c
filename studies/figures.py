"""Single figures of a written report, for sentences and small tables on the pages, which run these functions.

A figure is a cell of the report's own table: value, unit, interval, and n where it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from neurodial.evaluation.report.markdown import markdown_table
from neurodial.evaluation.results import read_report


class Figures:
    """The figures of one report, by method and dial."""

    def __init__(self, path: Path | str, metrics: Sequence[str]) -> None:
        lines = markdown_table(read_report(path), metrics).splitlines()[2:]
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        self.labels = {_key(row[0], row[1]): row[0] for row in rows}
        self.cells = {_key(row[0], row[1]): dict(zip(metrics, row[2:], strict=True)) for row in rows}

    def of(self, method: str, metric: str, dial: float = 1.0, *, with_n: bool = False) -> str:
        """A figure, such as `80 % [65, 90]`; a method's label may go on with what was chosen for it."""
        cell = self.cells[method, f"{dial:g}"][metric]
        return cell if with_n else re.sub(r", n = \d+$", "", cell)

    def n(self, method: str, metric: str, dial: float = 1.0) -> int:
        """How many prompts or texts a figure is of."""
        return int(self.of(method, metric, dial, with_n=True).rpartition("n = ")[2])


def demo_table(path: Path | str) -> str:
    """What the demo found at dial 1: refusals of harmful and of harmless prompts, and the damage."""
    columns = {"rate:refusal": "refuses harmful", "opposite": "refuses harmless", "kl": "KL, nats per token"}
    figures = Figures(path, tuple(columns))
    lines = ["| on held-out prompts | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 1) + "|"]
    for method, dial in figures.cells:
        if dial not in {"0", "1"}:
            continue
        title = _TITLES.get(method, method)
        lines.append("| " + " | ".join([title, *(figures.of(method, name, float(dial)) for name in columns)]) + " |")
    return "\n".join(lines)


_TITLES: Mapping[str, str] = {"dose": "**Dose**", "cna": "CNA"}


def _key(label: str, dial: str) -> tuple[str, str]:
    return re.sub(r" \(.*\)$", "", label), dial
