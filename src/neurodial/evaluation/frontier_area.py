"""A method's frontier, behaviour left against damage done, in one number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neurodial.errors import OptionError
from neurodial.evaluation.results import Report


@dataclass(frozen=True)
class FrontierArea:
    """A method's frontier in one number each.

    Attributes:
        label: the method.
        area: mean of the behaviour left over damage from 0 to the cap: lower is better; unsteered is 1.
        left: behaviour left at the cap, relative to unsteered, the best point within it.
        points: (KL, behaviour left) of the points on the frontier.
    """

    label: str
    area: float
    left: float
    points: tuple[tuple[float, float], ...]


def frontier_figures(report: Report, *, cap: float = 0.1, metric: str | None = None) -> tuple[FrontierArea, ...]:
    """Behaviour left against damage, one number for each method.

    1. A method's points are its dials above 0, each (KL, behaviour left / unsteered); (0, 1) belongs to every method.
    2. Its frontier at damage x is the least behaviour left at any point of damage up to x: a step function.
    3. `area` is its mean from 0 to the cap; `left` its value at the cap.

    Raises:
        OptionError: the cap is not above 0, or the report lacks the metric.

    Example:
        >>> frontier_figures(Report("x", {"x": ""}, (ConditionResult("unsteered", "unsteered", 0.0, {}, {}, {}),)))
        Traceback (most recent call last):
        neurodial.errors.OptionError: The report has no behaviour rate. Wanted: a report with answers or with openers.
    """
    if not cap > 0:
        raise OptionError(f"The cap is {cap}.", wanted="more than 0 nats per token")
    name = metric or next((n for n in (report.headline, "opener") if n in report.unsteered.metrics), None)
    before = None if name is None else report.unsteered.metrics.get(name)
    if name is None or before is None or not before.value > 0:
        raise OptionError("The report has no behaviour rate.", wanted="a report with answers or with openers")
    figures = []
    for label, conditions in report.methods().items():
        points = [
            (condition.metrics["kl"].value, condition.metrics[name].value / before.value)
            for condition in conditions
            if condition.dial > 0 and "kl" in condition.metrics and name in condition.metrics
        ]
        if points:
            steps = _steps(points, cap)
            area = sum(height * (end - start) for start, end, height in steps) / cap
            figures.append(FrontierArea(label, area, steps[-1][2], tuple(sorted(points))))
    return tuple(sorted(figures, key=lambda figure: figure.area))


def _steps(points: Sequence[tuple[float, float]], cap: float) -> list[tuple[float, float, float]]:
    """The frontier as (start, end, height) from 0 to the cap."""
    height, start, steps = 1.0, 0.0, []
    for damage, left in sorted(points):
        if damage > cap:
            break
        if left < height:
            steps.append((start, damage, height))
            start, height = damage, left
    return [*steps, (start, cap, height)]
