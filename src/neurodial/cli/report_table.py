"""A report in the terminal: as many tables as its width asks for, whole headings, and the verdict at the end.

1. Every column has the width of its heading and its cells; a table takes columns as long as they fit.
2. Each number stands with its interval, and n under its heading.
3. The first detector, cost and broken answers come first, then every other detector that was asked for, then the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from neurodial.evaluation.intervals import Estimate
    from neurodial.evaluation.results import Report

_SHOWN = (
    "kl",
    "degenerate",
    "brokenness",
    "partial",
    "opposite",
    "over_refusal",
    "opener",
    "perplexity",
    "repetition",
    "accuracy",
    "mmlu",
)
_BEFORE_OTHERS = 2
"""So many of these stand beside the first detector, before the others."""
_GAP = 2
_LABEL_SHARE = 0.35
"""Of the width that names of methods may take before they are wrapped."""


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers, as text.

    Attributes:
        heading: its lines.
        cells: one for each condition.
    """

    heading: tuple[str, ...]
    cells: tuple[str, ...]

    @property
    def width(self) -> int:
        """Characters that it needs."""
        return max(map(len, (*self.heading, *self.cells)))


def print_report(report: Report, console: Console, *, notes: bool = True) -> None:
    """Print the numbers that matter most, what a reader should know, and the verdict."""
    from neurodial.evaluation.verdict import verdict

    width = console.width
    columns = _columns(report)
    label_width = _label_width(report, columns, width)
    for group in _column_groups(columns, width - label_width - _GAP):
        console.print(_table(report, group, label_width))
        console.print()
    for note in report.notes if notes else ():
        console.print(Text(note), style="dim")
    if notes and report.notes:
        console.print()
    console.print(Text(verdict(report)), style="bold")


def _columns(report: Report) -> list[NumberColumn]:
    from neurodial.evaluation.metrics import metric

    present = {name for condition in report.conditions for name in condition.metrics}
    first, *others = [f"rate:{name}" for name in report.detectors]
    names = [first, *_SHOWN[:_BEFORE_OTHERS], *others, *_SHOWN[_BEFORE_OTHERS:]]
    names += [*sorted(name for name in present if name.startswith("task:"))]
    if "opener" not in present and report.headline not in present:
        names.append("margin")
    return [
        _column(report, name, metric(name).title, is_share=metric(name).is_share) for name in names if name in present
    ]


def _column(report: Report, name: str, title: str, *, is_share: bool) -> NumberColumn:
    estimates = [condition.metrics.get(name) for condition in report.conditions]
    counts = sorted({estimate.n for estimate in estimates if estimate is not None})
    many = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    cells = tuple(shown_estimate(estimate, is_share=is_share) for estimate in estimates)
    room = max(12, *map(len, cells))
    return NumberColumn((*_wrapped(title, room), many), cells)


def shown_estimate(estimate: Estimate | None, *, is_share: bool) -> str:
    """A number with its interval, in characters."""
    if estimate is None or math.isnan(estimate.value):
        return "–"
    scale, digits, finer = (100, ".0f", ".0f") if is_share else (1, ".2g", ".3g")
    value = f"{scale * estimate.value:{finer}}"
    low, high = (f"{scale * end:{digits}}" for end in (estimate.low, estimate.high))
    unit = " %" if is_share else ""
    return f"{value}{unit}" if math.isnan(estimate.low) else f"{value}{unit} [{low}, {high}]"


def _wrapped(title: str, room: int) -> Iterator[str]:
    """The lines of a heading: broken at blanks and after colons and hyphens; a long word has a line of its own."""
    line = ""
    for word in re.findall(r"[^\s:-]*[:-]?\s*", title):
        if line and len((line + word).rstrip()) > room:
            yield line.rstrip()
            line = ""
        line += word
    if line.strip():
        yield line.rstrip()


def _label_width(report: Report, columns: Sequence[NumberColumn], width: int) -> int:
    """Of the method and its dial together: whole where there is room, at least as wide as the widest number leaves."""
    longest = max(len(condition.label) for condition in report.conditions) + _GAP + len("dial")
    widest = max((column.width for column in columns), default=0)
    return max(min(longest, int(_LABEL_SHARE * width), width - widest - _GAP), len("method") + _GAP + len("dial"))


def _column_groups(columns: Sequence[NumberColumn], room: int) -> Iterator[list[NumberColumn]]:
    group: list[NumberColumn] = []
    for column in columns:
        if group and sum(other.width + _GAP for other in group) + column.width > room:
            yield group
            group = []
        group.append(column)
    if group:
        yield group


def _table(report: Report, columns: Sequence[NumberColumn], label_width: int) -> Table:
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    table.add_column("method", width=label_width - len("dial") - _GAP, overflow="fold")
    table.add_column("dial", width=len("dial"), justify="right")
    for column in columns:
        table.add_column(Text("\n".join(column.heading)), width=column.width, no_wrap=True)
    for number, condition in enumerate(report.conditions):
        cells = [Text(column.cells[number]) for column in columns]
        table.add_row(Text(condition.label), f"{condition.dial:g}", *cells)
    return table
