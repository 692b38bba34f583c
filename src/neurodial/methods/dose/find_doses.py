"""Dose (effect and cost) end to end: prompts in, neurons with measured doses out.

1. The behaviour's margin, as `margins/choose_margin.py` chooses it.
2. The model's own answers to neutral prompts, for the cost (discovery split) and for the damage (development split).
   Neutral answers that show the behaviour are left out.
3. Effect on the prompts that show the behaviour (to remove it) or lack it (to induce it), by prompt fold.
4. Cost of every neuron.
5. Paths of doses (`paths.py`): once with the neurons that hold the behaviour up alone, once with those that hold it
   down as well, unless one is asked for; and for each mixture of effects where the margin knows reference answers.
6. The one search (`strength/`) along each of them; what goes further on the development split is kept.
7. The report: what was predicted, what was measured. Stability: what is chosen again without each fold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from neurodial.circuit.circuit import Row, Stability
from neurodial.circuit.report import CostReport, DoseReport, Goal, Measured, Predicted, Reached, TrialReport
from neurodial.intervention.base import Intervention
from neurodial.intervention.scale import Scale
from neurodial.margins.choose_margin import BehaviourMargin
from neurodial.methods.apart import check_apart
from neurodial.methods.dose.candidates import candidate_of, candidates, first_order
from neurodial.methods.dose.cost import Cost, Sampling, cost
from neurodial.methods.dose.effects import Effects, effects_by_fold
from neurodial.methods.dose.inputs import DoseInputs, gather_inputs
from neurodial.methods.dose.options import Dose
from neurodial.methods.folds import fold_of_each, stability_over_folds
from neurodial.methods.scores import Scores
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import PairSet
from neurodial.strength.choose_path import PathChoice, choose_path
from neurodial.strength.development import Development, PathSearch, mean_of
from neurodial.strength.limits import Limits, Trial, better

_ROUNDS = 4


@dataclass(frozen=True)
class Dosed:
    """What effect and cost found.

    Attributes:
        rows: neurons with scores `e^2 / c` and doses.
        scores: `e^2 / c` of every neuron, 0 where it does not take part.
        stability: over prompt folds, or None where it was not asked for.
        report: predicted and measured margin and divergence, openers, noise, and every trial.
        margin: of the behaviour.
    """

    rows: tuple[Row, ...]
    scores: Scores
    stability: Stability | None
    report: DoseReport
    margin: BehaviourMargin


def find_doses(
    subject: Subject,
    pairs: PairSet,
    method: Dose,
    *,
    margin: BehaviourMargin | None = None,
    progress: Progress = silent,
) -> Dosed:
    """Find the neurons that hold a behaviour up, and how far to dial each.

    Raises:
        MarginError: the behaviour can't be measured by the margin asked for.
        BudgetError: the budget or the target can't be met.
        GradientError: the model gives no gradients.
        PromptError: a split is missing, its sides are rendered alike, or nearly all neutral answers show the behaviour.
    """
    for contrast in (pairs.discovery, pairs.development):
        check_apart(subject, contrast, system=method.system)
    inputs = gather_inputs(subject, pairs, method, margin=margin, progress=progress)  # 1, 2
    folds = fold_of_each([example.prompt for example in inputs.about], max(1, min(method.folds, len(inputs.about))))
    effects_of_folds = effects_by_fold(  # 3
        subject,
        inputs.margin.pushed,
        inputs.about,
        method.direction,
        folds=folds,
        system=method.system,
        progress=progress,
    )
    count = 1 + max(folds)
    effects = effects_of_folds(range(count))
    costs = cost(subject, inputs.costing, sampling=Sampling(method.draws, method.seed), progress=progress)  # 4
    development = inputs.development(subject, pairs, method, progress)
    opposite = pairs.development.about("induce" if method.direction == "remove" else "remove")
    limits = _limits(development, method, lambda: development.means(opposite, [None])[0][0])
    paths = {
        PathSearch(development, candidate.path(effects, costs, limits, development.unsteered.margin)): candidate
        for candidate in candidates(effects, costs, method)  # 5
    }
    choice = choose_path(list(paths), limits, rounds=_ROUNDS)  # 6
    kept, rows = paths[choice.path], _rows(choice.best.intervention)
    others = [margin for margin, _ in development.means(opposite, [None, choice.best.intervention])]

    def chosen_without(fold: int) -> Sequence[Row]:
        left = effects_of_folds([other for other in range(count) if other != fold])
        again = candidate_of(left, costs, method, kept.sign, kept.mixture)
        return again.doses.rows_at(choice.best.strength)

    stability = stability_over_folds(
        {row.neuron for row in rows},
        count if method.folds >= 2 else 0,
        lambda fold: (row.neuron for row in chosen_without(fold)),
    )
    report = DoseReport(  # 7
        **inputs.report(),
        neutral=inputs.neutral,
        cost=CostReport(costs.tokens, costs.noise),
        goal=Goal(limits.budget, limits.target, limits.target is None or limits.meets_target(choice.best)),
        predicted=_predicted(effects, costs, rows, development.unsteered.margin),
        measured=_measured(development, limits, choice.best, others, inputs),
        sign=kept.sign,
        follows=kept.mixture,
        signs=_reached(choice, limits, {path: candidate.sign for path, candidate in paths.items()}),
        followed=_reached(choice, limits, {path: candidate.mixture for path, candidate in paths.items()}),
        trials=tuple(_trial_report(trial) for trial in choice.trials),
    )
    return Dosed(rows, kept.effect_cost.scores, stability, report, inputs.margin)


def _limits(development: Development, method: Dose, other_side: Callable[[], float]) -> Limits:
    """The limits that the method asks for; without any, up to the margin of the other side's prompts."""
    if method.budget is None and method.margin_target is None:
        return development.limits(None, other_side(), target_required=False)
    return development.limits(method.budget, method.margin_target)


def _rows(intervention: Intervention | None) -> tuple[Row, ...]:
    assert isinstance(intervention, Scale)  # noqa: S101  # what paths of doses give
    return intervention.circuit.rows


def _reached(choice: PathChoice, limits: Limits, names: Mapping[PathSearch, str]) -> dict[str, Reached]:
    """What the best path of each name came to, in the order in which paths were searched."""
    measured = {choice.path: choice.best, **dict(choice.others)}
    best: dict[str, Trial] = {}
    for path, name in names.items():
        if path in measured:
            trial = measured[path]
            best[name] = trial if name not in best else better(best[name], trial, limits)
    return {name: Reached(trial.margin, trial.divergence) for name, trial in best.items()}


def _predicted(effects: Effects, costs: Cost, rows: Sequence[Row], before: float) -> Predicted:
    change, diagonal = first_order(effects, costs, rows)
    return Predicted(change, before + change, diagonal)


def _measured(
    development: Development, limits: Limits, best: Trial, others: Sequence[float], inputs: DoseInputs
) -> Measured:
    """What the doses came to, and what the unsteered model had; `others`: the same of the other side's margin."""
    before = development.unsteered
    has_reference = limits.least_reference is not None
    return Measured(
        margin_before=before.margin,
        margin=best.margin,
        margin_change=best.margin - before.margin,
        other_side_before=others[0],
        other_side=others[1],
        divergence=best.divergence,
        divergence_standard_error=best.error,
        tokens=sum(passage.scored for passage in inputs.damage),
        reference_before=before.reference if has_reference else None,
        reference=best.reference if has_reference else None,
        degenerate_before=before.degenerate,
        degenerate=best.degenerate,
    )


def _trial_report(trial: Trial) -> TrialReport:
    doses = [abs(row.dose) for row in _rows(trial.intervention)]
    return TrialReport(trial.strength, trial.divergence, trial.margin, mean_of(doses), max(doses), trial.degenerate)
