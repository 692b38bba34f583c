"""What a report comes to in one sentence, by rules and from the numbers alone.

1. Each method counts at dial 1: that strength was chosen on other prompts than those reported on.
2. The number is the first detector's rate; where no answers were made, the opening-token probability, else the margin.
3. The best of the circuits (of the other methods, where there is no circuit) is the one that moves it furthest in the
   direction that most of them move it, among those whose damage keeps to the limit; where none does, the least costly.
4. It is set against the strongest other method that keeps to the limit too, and against random controls, each by the
   paired difference on the same prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from neurodial.evaluation.intervals import Difference, Estimate
from neurodial.evaluation.metrics import metric
from neurodial.evaluation.results import ConditionResult, Report

_DEFAULT_LIMIT = 0.1
_NATS = {"margin", "kl", "right_log_likelihood"}


@dataclass(frozen=True)
class Rival:
    """Another condition that the best one is set against.

    Attributes:
        condition: which.
        difference: best minus this one, on the same prompts; None where the report holds no paired difference.
    """

    condition: ConditionResult
    difference: Difference | None


@dataclass(frozen=True)
class BestCondition:
    """The condition that a report's verdict is about.

    Attributes:
        condition: which.
        number: name of the number that the verdict is about.
        before: that number unsteered.
        after: the same under the condition.
        change: after minus before, paired.
        limit: nats per token that damage should keep to.
        rival: the strongest other method within the limit.
        control: the random control that moves the number furthest.
    """

    condition: ConditionResult
    number: str
    before: Estimate
    after: Estimate
    change: Difference
    limit: float
    rival: Rival | None
    control: Rival | None

    @property
    def cost(self) -> Estimate | None:
        """Divergence on neutral text in nats per token; None where it is not defined or was not measured."""
        return self.condition.metrics.get("kl")


def number_of(report: Report) -> str | None:
    """Name of the number that says how much the behaviour shows; None where nothing of the kind was measured."""
    names = (report.headline, "opener", "margin")
    steered = [name for condition in report.conditions[1:] for name in condition.differences]
    return next((name for name in names if name in report.unsteered.metrics and name in steered), None)


def best_condition(report: Report) -> BestCondition | None:
    """The condition that the verdict is about, with what it is set against; None where nothing was steered or measured.

    Example:
        >>> unsteered = ConditionResult("unsteered", "unsteered", 0.0, {}, {}, {})
        >>> best_condition(Report("refusal", {"refusal": ""}, (unsteered,))) is None
        True
    """
    number = number_of(report)
    if number is None:
        return None
    able = [c for c in report.at_full_dial() if number in c.differences and not _is_empty(c.differences[number])]
    methods = [c for c in able if not c.is_control] or able
    candidates = [c for c in methods if c.method == "circuit"] or methods
    if not candidates:
        return None
    limit = float(report.settings.get("kl_limit", _DEFAULT_LIMIT))
    change = sum(_change(c, number) for c in candidates)
    direction = 1.0 if change > 0 else -1.0
    best = _furthest(_within(candidates, limit), number, direction) or min(candidates, key=_cost)
    others = [c for c in methods if c is not best]
    controls = [c for c in able if c.is_control and c is not best]
    return BestCondition(
        best,
        number,
        report.unsteered.metrics[number],
        best.metrics[number],
        best.differences[number],
        limit,
        _rival(
            report, _furthest(_within(others, limit), number, direction) or min(others, key=_cost, default=None), best
        ),
        _rival(report, _furthest(controls, number, direction), best),
    )


def verdict(report: Report) -> str:
    """One sentence: what the best condition does to the behaviour, its cost, beyond chance or not, against what.

    Example:
        >>> unsteered = ConditionResult("unsteered", "unsteered", 0.0, {}, {}, {})
        >>> verdict(Report("refusal", {"refusal": ""}, (unsteered,)))
        'Nothing was steered, or nothing says how much refusal shows.'
    """
    best = best_condition(report)
    if best is None:
        return f"Nothing was steered, or nothing says how much {report.behaviour} shows."
    parts = [f"{_what(report, best)}{_cost_words(best)}{_broken_words(best)}"]
    if best.rival is not None:
        is_dear = _cost(best.rival.condition) > best.limit
        parts.append(_against(best, best.rival, "the other method, " if is_dear else "the strongest other method, "))
    if best.control is not None:
        parts.append(_against(best, best.control, "the control, "))
    return "; ".join(parts) + "."


def number_name(report: Report, number: str) -> str:
    """What the number is called in a sentence."""
    return {"opener": f"the probability that an answer opens as {report.behaviour} does", "margin": "the margin"}.get(
        number, report.behaviour
    )


def shown_value(value: float, number: str) -> str:
    """A value of a number as a reader sees it.

    Example:
        >>> shown_value(0.254, "rate:refusal"), shown_value(-1.5, "margin")
        ('25 %', '-1.5 nats')
    """
    if math.isnan(value):
        return "–"
    return f"{100 * value:.0f} %" if metric(number).is_share else f"{value:.3g} nats"


def shown_change(change: Difference, number: str) -> str:
    """A difference with its interval: in points for shares.

    Example:
        >>> from neurodial.evaluation.intervals import paired_rates
        >>> shown_change(paired_rates([True] * 10, [True] * 5 + [False] * 5), "rate:refusal")
        '−50 points [−76, −17]'
    """
    moved = change.estimate
    in_nats = " nats" if number in _NATS else ""
    factor, unit, digits = (100, " points", ".0f") if metric(number).is_share else (1, in_nats, ".3g")
    value, low, high = (f"{factor * item:+{digits}}" for item in (moved.value, moved.low, moved.high))
    ends = "" if math.isnan(moved.low) else f" [{low}, {high}]"
    return f"{value}{unit}{ends}".replace("-", "−")  # a minus sign, as long as the plus


def _what(report: Report, best: BestCondition) -> str:
    name, at = number_name(report, best.number), f"{best.condition.label} at dial {best.condition.dial:g}"
    path = f"from {shown_value(best.before.value, best.number)} to {shown_value(best.after.value, best.number)}"
    if not best.change.is_clear:
        return f"{at} does not change {name} beyond chance ({path})"
    verb = "lowers" if best.change.estimate.value < 0 else "raises"
    return f"{at} {verb} {name} {path}, beyond chance"


def _cost_words(best: BestCondition) -> str:
    if best.cost is None:
        return ""
    over = "" if best.cost.value <= best.limit else f", above the limit of {best.limit:g}"
    return f", at a cost of {best.cost.value:.2g} nats per token{over}"


def _broken_words(best: BestCondition) -> str:
    broken = best.condition.differences.get("degenerate")
    if broken is None or not broken.is_clear or broken.estimate.value <= 0:
        return ""
    return f", and {shown_value(best.condition.metrics['degenerate'].value, 'degenerate')} of its answers are broken"


def _against(best: BestCondition, rival: Rival, words: str) -> str:
    reached = shown_value(rival.condition.metrics[best.number].value, best.number)
    who = f"{words}{rival.condition.label}"
    if _cost(rival.condition) > best.limit:
        who += f" (past the limit, at {_cost(rival.condition):.2g} nats per token)"
    if rival.difference is None:
        return f"{who}, comes to {reached}"
    moved = shown_change(rival.difference, best.number)
    if not rival.difference.is_clear:
        return f"no clear difference from {who}: {reached}, {moved}"
    return f"{'less' if rival.difference.estimate.value < 0 else 'more'} than {who}: {reached}, {moved}"


def _rival(report: Report, other: ConditionResult | None, best: ConditionResult) -> Rival | None:
    return None if other is None else Rival(other, report.compared(other, best))


def _within(conditions: Sequence[ConditionResult], limit: float) -> list[ConditionResult]:
    return [c for c in conditions if "kl" not in c.metrics or c.metrics["kl"].value <= limit]


def _furthest(conditions: Sequence[ConditionResult], number: str, direction: float) -> ConditionResult | None:
    return max(conditions, key=lambda c: (direction * _change(c, number), -_cost(c)), default=None)


def _change(condition: ConditionResult, number: str) -> float:
    return condition.differences[number].estimate.value


def _cost(condition: ConditionResult) -> float:
    return condition.metrics["kl"].value if "kl" in condition.metrics else 0.0


def _is_empty(difference: Difference) -> bool:
    return difference.estimate.n == 0 or math.isnan(difference.estimate.value)
