"""Tables of a written report in Markdown, so that a page's figures are the report's own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurodial.errors import FileError, UnknownNameError, near_names
from neurodial.evaluation.metrics import metric
from neurodial.evaluation.results import FORMAT


def read_report(path: Path | str) -> dict[str, Any]:
    """A report.json as plain values.

    Raises:
        FileError: it can't be read, or is no report.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"{path} can't be read: {error}.", wanted="a report.json") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise FileError(f"{path} is no report.", wanted="a report.json of neurodial evaluate")
    return value


def markdown_table(
    report: Mapping[str, Any], names: Sequence[str], *, dials: Sequence[float] | None = None, differences: bool = False
) -> str:
    """One row for each arm: numbers with their intervals.

    Args:
        report: of `read_report`.
        names: metrics, such as `rate:refusal` and `kl`.
        dials: only arms at these dials, and the unsteered model; None for all.
        differences: paired differences against the unsteered model instead of the numbers.

    Raises:
        UnknownNameError: no arm has such a metric.

    Example:
        >>> estimate = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 8}
        >>> arm = {"label": "unsteered", "dial": 0.0, "metrics": {"rate:refusal": estimate}}
        >>> print(markdown_table({"arms": [arm], "detectors": {"refusal": ""}}, ["rate:refusal"]))
        | method | dial | refusal |
        |---|---|---|
        | unsteered | 0 | 50 % [25, 75], n = 8 |
    """
    known = {name for arm in report["arms"] for name in arm["metrics"]}
    for name in names:
        if name not in known:
            raise UnknownNameError(f"The report has no {name!r}.", fix=near_names(name, known))
    columns = {name: metric(name, report["detectors"]) for name in names}
    lines = ["| " + " | ".join(["method", "dial", *(one.title for one in columns.values())]) + " |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for arm in report["arms"][1:] if differences else report["arms"]:
        if dials is not None and arm["dial"] not in (0, *dials):
            continue
        source = arm["differences"] if differences else arm["metrics"]
        cells = [_cell(source.get(name), is_share=one.is_share, signed=differences) for name, one in columns.items()]
        lines.append("| " + " | ".join([arm["label"], f"{arm['dial']:g}", *cells]) + " |")
    return "\n".join(lines)


def _cell(found: Mapping[str, Any] | None, *, is_share: bool, signed: bool) -> str:
    if found is None:
        return "–"
    estimate = found.get("estimate", found)
    if estimate["value"] is None:
        return "–"
    sign = "+" if signed else ""

    def number(value: float) -> str:
        return f"{100 * value:{sign}.0f}" if is_share else f"{value:{sign}.3g}"

    ends = "" if estimate["low"] is None else f" [{number(estimate['low'])}, {number(estimate['high'])}]"
    unit = (" points" if signed else " %") if is_share else ""
    return f"{number(estimate['value'])}{unit}{ends}, n = {estimate['n']}"
