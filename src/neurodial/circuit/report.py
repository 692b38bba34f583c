"""What a method predicted and measured: the report inside a circuit. Torch-free.

Files hold it as JSON with these names; older files with other names are read too (`with_today_names`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True)
class Reached:
    """The result of one of several candidates: mean margin, and divergence in nats per token."""

    margin: float
    divergence: float


@dataclass(frozen=True)
class MarginAgreement:
    """How well a margin tells the development answers apart.

    Attributes:
        accuracy: mean over answers with and without the behaviour of the share that the margin's own sign (an opening,
            a span, more than zero) tells rightly.
        auroc: the chance that the margin of a prompt whose answer shows the behaviour is above that of one without.
        answers: how many were told apart.

    Example:
        >>> MarginAgreement(1.0, 0.75, 24).worth
        0.75
    """

    accuracy: float
    auroc: float
    answers: int

    @property
    def worth(self) -> float:
        """The lesser of both."""
        return min(self.accuracy, self.auroc)


def told_apart(weighed: Mapping[str, MarginAgreement]) -> str:
    """How well each margin tells answers apart, in words, with the number of answers where it saw a part of them.

    Example:
        >>> told_apart({"openers": MarginAgreement(0.9, 0.96, 80), "spans": MarginAgreement(0.8, 0.9, 48)})
        'openers 90% right, AUROC 0.96; spans 80% right, AUROC 0.90 (of 48 answers)'
    """
    most = max(agreement.answers for agreement in weighed.values())
    return "; ".join(
        f"{kind} {agreement.accuracy:.0%} right, AUROC {agreement.auroc:.2f}"
        + (f" (of {agreement.answers} answers)" if agreement.answers < most else "")
        for kind, agreement in weighed.items()
    )


@dataclass(frozen=True)
class NeutralAnswers:
    """The neutral answers that cost and damage were measured on.

    Attributes:
        name: of the list of prompts.
        hash: of its content.
        answers: how many were used; None in older files.
        left_out: how many more were left out since they show the behaviour; None where that is not known.
    """

    name: str
    hash: str
    answers: int | None = None
    left_out: int | None = None


@dataclass(frozen=True)
class Goal:
    """The request: a budget in nats per token, a margin to reach, and whether all was met."""

    budget: float | None
    margin: float | None
    reached: bool


@dataclass(frozen=True)
class CostReport:
    """The cost's number of scored tokens, and how much its two halves differ, as a share."""

    tokens: int
    split_half_noise: float


@dataclass(frozen=True)
class Predicted:
    """To first order: the margin and its change; divergence from each neuron's own curvature.

    Older files also hold the divergence from their joint curvature.
    """

    margin_change: float
    margin: float
    divergence_diagonal: float
    divergence: float | None = None


@dataclass(frozen=True)
class Measured:
    """Measured on the development split at dial 1, beside the values of the unsteered model.

    Attributes:
        margin_before: mean margin of the prompts that the direction is about, unsteered.
        margin: the same at dial 1.
        margin_change: their difference.
        other_side_before: mean margin of the other side's prompts, unsteered.
        other_side: the same at dial 1.
        divergence: nats per token on neutral answers.
        divergence_standard_error: of that.
        tokens: scored tokens of those answers.
        reference_before: mean log-likelihood per token of reference answers, where the margin knows any.
        reference: the same at dial 1.
        degenerate_before: share of degenerate answers, unsteered, where that was limited.
        degenerate: the same at dial 1.
        broken_before: mean brokenness of those answers, unsteered, where they were made.
        broken: the same at dial 1.
    """

    margin_before: float
    margin: float
    margin_change: float
    other_side_before: float
    other_side: float
    divergence: float
    divergence_standard_error: float
    tokens: int
    reference_before: float | None = None
    reference: float | None = None
    degenerate_before: float | None = None
    degenerate: float | None = None
    broken_before: float | None = None
    broken: float | None = None


@dataclass(frozen=True)
class TrialReport:
    """One strength that was measured, with the mean and the largest dose."""

    strength: float
    divergence: float
    margin: float
    mean_dose: float
    largest_dose: float
    degenerate: float | None = None
    broken: float | None = None


@dataclass(frozen=True)
class FitReport:
    """What a fit of the doses came to, on the development split.

    Attributes:
        asked: gradient steps that were asked for, at most.
        made: steps that were made.
        steps: steps after which the best doses were reached; 0: none improved on the beginning.
        before: margin and divergence of the doses that it began with.
        after: those of the fitted doses, at the limits; None where they could not be kept.
        taken: whether the fitted doses are the circuit's.
    """

    asked: int
    made: int
    steps: int
    before: Reached
    after: Reached | None
    taken: bool


@dataclass(frozen=True, kw_only=True)
class DoseReport:
    """What a search for doses predicted and measured.

    Attributes:
        margin: the kind of margin.
        neutral: the neutral answers.
        cost: how well the cost is known, where the method measures one.
        goal: what was asked for.
        shortfall: what of it could not be met, in words; empty where all was.
        predicted: to first order, where the method predicts.
        measured: on the development split.
        trials: every strength that was measured along the chosen path.
        margin_text: the margin in words.
        weighed: how well each margin that was considered tells the development answers apart.
        judged_by: what said of these answers whether they show the behaviour.
        openers: how the behaviour's answers begin.
        coverage: share of the answers of either side that begin so.
        alternatives: how answers without the behaviour begin.
        alternatives_coverage: share of the answers of either side that begin so.
        sign: of the effects that are used.
        follows: the effects that doses follow.
        signs: the result of the best path of each sign.
        followed: the result of the best path of each mixture of effects.
        seconds: how long each part took.
        fit: what gradient steps on the doses came to, where they were asked for.
        candidates: the result of each candidate neuron within the limits, by its layer and index (`16.1525`).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    margin: str
    neutral: NeutralAnswers
    cost: CostReport | None = None
    goal: Goal
    predicted: Predicted | None = None
    measured: Measured
    trials: tuple[TrialReport, ...] = ()
    shortfall: str = ""
    margin_text: str = ""
    weighed: Mapping[str, MarginAgreement] = field(default_factory=dict)
    judged_by: str = ""
    openers: tuple[str, ...] = ()
    coverage: Mapping[str, float | None] = field(default_factory=dict)
    alternatives: tuple[str, ...] = ()
    alternatives_coverage: Mapping[str, float | None] = field(default_factory=dict)
    sign: str | None = None
    follows: str | None = None
    signs: Mapping[str, Reached] = field(default_factory=dict)
    followed: Mapping[str, Reached] = field(default_factory=dict)
    candidates: Mapping[str, Reached] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    fit: FitReport | None = None


_OLD_NAMES = {"push": "follows", "pushes": "followed", "aim": "reference", "aim_before": "reference_before"}


def with_today_names(value: Any) -> Any:
    """The JSON values of a report of this version or an older one, by the names of this one."""
    values = _renamed(value)
    if isinstance(values, dict) and isinstance(values.get("neutral"), dict):
        values["neutral"].pop("showing_the_behaviour", None)  # a share, in older files: all answers were used
    return values


def report_values(report: DoseReport) -> dict[str, Any]:
    """The report as JSON values; empty fields are left out.

    Example:
        >>> measured = Measured(1.0, -1.0, -2.0, 0.0, -1.0, 0.01, 0.001, 100)
        >>> goal, neutral = Goal(0.05, None, True), NeutralAnswers("neutral", "0" * 64)
        >>> report = DoseReport(margin="openers", neutral=neutral, goal=goal, measured=measured)
        >>> report_values(report)["measured"]["margin"]
        -1.0
    """
    return {name: value for name, value in _plain(report).items() if value not in (None, {}, [], "")} | {
        "goal": _plain(report.goal)
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        values = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return values if isinstance(value, Goal) else {name: v for name, v in values.items() if v is not None}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _renamed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_OLD_NAMES.get(name, name): _renamed(item) for name, item in value.items()}
    return value
