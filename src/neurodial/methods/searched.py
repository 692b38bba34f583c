"""What every method does that searches for its doses: limits on the development split, and what came out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from neurodial.circuit.circuit import Row, Stability
from neurodial.circuit.report import DoseReport, Goal, Measured, Reached, TrialReport
from neurodial.errors import BudgetError
from neurodial.intervention.base import Intervention
from neurodial.intervention.scale import Scale
from neurodial.margins.behaviour_margin import BehaviourMargin
from neurodial.methods.base import SearchOptions
from neurodial.methods.dose.inputs import DoseInputs
from neurodial.methods.scores import Scores
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import PairSet
from neurodial.prompts.prompt import Example
from neurodial.strength.choose_path import PathChoice, choose_path
from neurodial.strength.development import Development, PathSearch, mean_of
from neurodial.strength.limits import Limits, Trial, better

_log = logging.getLogger(__name__)

ROUNDS = 4
"""Of the search along each path, at most."""


@dataclass(frozen=True)
class Searched:
    """What a method found that searches for its doses.

    Attributes:
        rows: neurons with scores and doses.
        scores: of every neuron, 0 where it does not take part.
        stability: over prompt folds, or None where there is none.
        report: predicted and measured margin and divergence, openers, and every trial.
        margin: of the behaviour.
    """

    rows: tuple[Row, ...]
    scores: Scores
    stability: Stability | None
    report: DoseReport
    margin: BehaviourMargin


@dataclass(frozen=True)
class DevelopmentSearch:
    """The development split as one method's options ask for it.

    Attributes:
        subject: the model.
        pairs: the prompts.
        method: with its options.
        inputs: the margin and the neutral answers.
        progress: shown while it runs.
    """

    subject: Subject
    pairs: PairSet
    method: SearchOptions
    inputs: DoseInputs
    progress: Progress = silent

    @cached_property
    def development(self) -> Development:
        """Where strengths are measured."""
        return self.inputs.development(self.subject, self.pairs, self.method, self.progress)

    @cached_property
    def limits(self) -> Limits:
        """The limits that the method asks for; without any, up to the margin of the other side's prompts."""
        method, development = self.method, self.development
        if method.budget is None and method.margin_target is None:
            other_side, _ = development.means(self._opposite, [None])[0]
            return development.limits(None, other_side, target_required=False)
        return development.limits(method.budget, method.margin_target)

    def best_of(self, paths: Sequence[PathSearch]) -> PathChoice:
        """The best path and strength; what it falls short of is logged, and stands in the report.

        Raises:
            BudgetError: nothing that was measured moves the margin in the direction asked for.
        """
        choice = choose_path(paths, self.limits, rounds=ROUNDS, strict=False)
        before, best = self.development.unsteered, choice.best
        if not self.limits.meets_target(best) and self.limits.distance(best) >= self.limits.distance(before):
            short = f"{choice.shortfall} " if choice.shortfall else ""
            raise BudgetError(
                f"Nothing useful was found: {short}The margin stays at {before.margin:.3g}, and is {best.margin:.3g} "
                "with the best doses.",
                wanted="doses that move the margin in the direction asked for",
                fix="Take another margin (--margin), more neurons, a larger budget, or prompts whose answers differ "
                "more.",
            )
        if choice.shortfall:
            _log.warning(
                "Not all that was asked for can be met: %s The best that was found is taken.", choice.shortfall
            )
        return choice

    def report(self, choice: PathChoice, **particulars: Any) -> DoseReport:
        """What was chosen and measured, with what only this method knows."""
        limits = self.limits
        return DoseReport(
            **self.inputs.report(),
            neutral=self.inputs.neutral,
            goal=Goal(limits.budget, limits.target, not choice.shortfall and _reaches(limits, choice.best)),
            shortfall=choice.shortfall,
            measured=self._measured(choice.best),
            seconds={name: round(seconds, 2) for name, seconds in self.inputs.watch.seconds.items()},
            trials=tuple(_trial_report(trial) for trial in choice.trials),
            **particulars,
        )

    @property
    def _opposite(self) -> Sequence[Example]:
        return self.pairs.development.about("induce" if self.method.direction == "remove" else "remove")

    def _measured(self, best: Trial) -> Measured:
        """What the doses came to, and what the unsteered model had."""
        before = self.development.unsteered
        others = [margin for margin, _ in self.development.means(self._opposite, [None, best.intervention])]
        has_reference = self.limits.least_reference is not None
        return Measured(
            margin_before=before.margin,
            margin=best.margin,
            margin_change=best.margin - before.margin,
            other_side_before=others[0],
            other_side=others[1],
            divergence=best.divergence,
            divergence_standard_error=best.error,
            tokens=sum(passage.scored for passage in self.inputs.damage),
            reference_before=before.reference if has_reference else None,
            reference=best.reference if has_reference else None,
            degenerate_before=before.degenerate,
            degenerate=best.degenerate,
            broken_before=before.broken,
            broken=best.broken,
        )


def _reaches(limits: Limits, best: Trial) -> bool:
    return limits.target is None or limits.meets_target(best)


def rows_of(intervention: Intervention | None) -> tuple[Row, ...]:
    """The neurons and doses of what a path of doses gives."""
    assert isinstance(intervention, Scale)  # noqa: S101  # what paths of doses give
    return intervention.circuit.rows


def reached(choice: PathChoice, limits: Limits, names: Mapping[PathSearch, str]) -> dict[str, Reached]:
    """What the best path of each name came to, in the order in which paths were searched."""
    measured = {choice.path: choice.best, **dict(choice.others)}
    best: dict[str, Trial] = {}
    for path, name in names.items():
        if path in measured:
            trial = measured[path]
            best[name] = trial if name not in best else better(best[name], trial, limits)
    return {name: Reached(trial.margin, trial.divergence) for name, trial in best.items()}


def _trial_report(trial: Trial) -> TrialReport:
    doses = [abs(row.dose) for row in rows_of(trial.intervention)]
    return TrialReport(
        trial.strength, trial.divergence, trial.margin, mean_of(doses), max(doses), *(trial.degenerate, trial.broken)
    )
