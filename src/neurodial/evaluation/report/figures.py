"""The two plots of an evaluation: what each dial does, and what is left against what it cost."""

from __future__ import annotations

from collections.abc import Sequence

from neurodial.evaluation.metrics import metric
from neurodial.evaluation.report.page import Figure
from neurodial.evaluation.report.plots import Series, csv_of, lines, scatter
from neurodial.evaluation.results import ConditionResult, Report
from neurodial.evaluation.verdict import number_of


def figures(report: Report) -> tuple[Figure, ...]:
    """The frontier, then the dials; a plot that would have nothing to show is left out."""
    number = number_of(report)
    if number is None:
        return ()
    return tuple(figure for figure in (_frontier(report, number), _dials(report, number)) if figure is not None)


def _frontier(report: Report, number: str) -> Figure | None:
    costly = [_costly(own, number) for own in report.methods().values()]
    series = [_series(points, number, "kl") for points in costly if points]
    if not series:
        return None
    svg = scatter(
        series,
        x_label="damage: KL on neutral answers (nats per token)",
        y_label=_said(report, number),
        is_share=metric(number).is_share,
        logarithmic=True,
        baseline=report.unsteered.metrics[number].value,
    )
    caption = (
        "What is left against the damage done, at dials above 0; 95 % intervals. Lower left is better, or upper left "
        "where a behaviour is induced."
    )
    return Figure(svg, caption, "frontier", csv_of(series, x_name="kl", y_name=_said(report, number)))


def _dials(report: Report, number: str) -> Figure | None:
    series = []
    for conditions in report.methods().values():
        points = [c for c in sorted([*conditions, report.unsteered], key=lambda c: c.dial) if number in c.metrics]
        if len(points) > 1:
            series.append(_series(points, number, "dial", label=conditions[0].label))
    if not series:
        return None
    svg = lines(
        series,
        x_label="dial (0: unsteered; 1: the strength that was chosen)",
        y_label=_said(report, number),
        is_share=metric(number).is_share,
        baseline=report.unsteered.metrics[number].value,
    )
    caption = "The behaviour at each dial; 95 % intervals. The dashed line is the unsteered model."
    return Figure(svg, caption, "dials", csv_of(series, x_name="dial", y_name=_said(report, number)))


def _costly(conditions: Sequence[ConditionResult], number: str) -> list[ConditionResult]:
    points = [c for c in conditions if c.dial > 0 and {"kl", number} <= c.metrics.keys()]
    return sorted(points, key=lambda c: c.metrics["kl"].value)


def _series(points: Sequence[ConditionResult], number: str, across: str, *, label: str | None = None) -> Series:
    values = [c.metrics[number] for c in points]
    return Series(
        label or points[0].label,
        tuple(c.dial if across == "dial" else c.metrics["kl"].value for c in points),
        tuple(e.value for e in values),
        tuple(e.low for e in values),
        tuple(e.high for e in values),
        is_control=points[-1].is_control,
    )


def _said(report: Report, number: str) -> str:
    if number == "margin":
        return "behaviour margin (nats)"
    if number == "opener":
        return f"answer opens as {report.behaviour} does"
    return f"answers that show {report.behaviour}"
