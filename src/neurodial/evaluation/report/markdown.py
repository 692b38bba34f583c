"""Tables of a written report in Markdown, so that a page's figures are the report's own."""

from __future__ import annotations

import math
from collections.abc import Sequence

from neurodial.errors import UnknownNameError, near_names
from neurodial.evaluation.intervals import Difference, Estimate
from neurodial.evaluation.metrics import metric
from neurodial.evaluation.results import Report


def markdown_table(
    report: Report, names: Sequence[str], *, dials: Sequence[float] | None = None, differences: bool = False
) -> str:
    """One row for each condition: numbers with their intervals.

    Args:
        report: of `read_report`, or of `evaluate`.
        names: metrics, such as `rate:refusal` and `kl`.
        dials: only conditions at these dials, and the unsteered model; None for all.
        differences: paired differences against the unsteered model instead of the numbers.

    Raises:
        UnknownNameError: no condition has such a metric.

    Example:
        >>> from neurodial.evaluation.results import ConditionResult
        >>> rates = {"rate:refusal": Estimate(0.5, 0.25, 0.75, 8, "Wilson")}
        >>> unsteered = ConditionResult("unsteered", "unsteered", 0.0, {}, rates, {})
        >>> print(markdown_table(Report("refusal", {"refusal": ""}, (unsteered,)), ["rate:refusal"]))
        | method | dial | refusal |
        |---|---|---|
        | unsteered | 0 | 50 % [25, 75], n = 8 |
    """
    known = {name for condition in report.conditions for name in condition.metrics}
    for name in names:
        if name not in known:
            raise UnknownNameError(f"The report has no {name!r}.", fix=near_names(name, known))
    columns = {name: metric(name, report.detectors) for name in names}
    lines = ["| " + " | ".join(["method", "dial", *(column.title for column in columns.values())]) + " |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for condition in report.conditions[1:] if differences else report.conditions:
        if dials is not None and condition.dial not in (0, *dials):
            continue
        source = condition.differences if differences else condition.metrics
        cells = [_cell(source.get(name), is_share=column.is_share) for name, column in columns.items()]
        lines.append("| " + " | ".join([condition.label, f"{condition.dial:g}", *cells]) + " |")
    return "\n".join(lines)


def _cell(number: Estimate | Difference | None, *, is_share: bool) -> str:
    signed = isinstance(number, Difference)
    estimate = number.estimate if isinstance(number, Difference) else number
    if estimate is None or math.isnan(estimate.value):
        return "–"
    sign = "+" if signed else ""

    def shown(value: float) -> str:
        return f"{100 * value:{sign}.0f}" if is_share else f"{value:{sign}.3g}"

    ends = "" if not estimate.has_interval else f" [{shown(estimate.low)}, {shown(estimate.high)}]"
    unit = (" points" if signed else " %") if is_share else ""
    return f"{shown(estimate.value)}{unit}{ends}, n = {estimate.n}"
