"""Dose (effect and cost) end to end: prompts in, neurons with measured doses out.

1. The behaviour's margin, as `margins/choose_margin.py` chooses it.
2. The model's own answers to neutral prompts, for the cost (discovery split) and for the damage (development split).
   Neutral answers that show the behaviour are left out.
3. Effect on the prompts that show the behaviour (to remove it) or lack it (to induce it), by prompt fold.
4. Cost of every neuron.
5. Paths of doses (`paths.py`): once with the neurons that hold the behaviour up alone, once with those that hold it
   down as well, unless one is asked for; and for each mixture of effects where the margin knows reference answers.
6. The one search (`strength/`) along each of them; what goes further on the development split is chosen.
7. Where it is asked for, gradient steps on the doses (`refine.py`); the better of before and after is taken.
8. The report: what was predicted, what was measured. Stability: what is chosen again without each fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from neurodial.circuit.circuit import Row
from neurodial.circuit.report import CostReport, Predicted
from neurodial.margins.behaviour_margin import BehaviourMargin
from neurodial.margins.judged import Shows
from neurodial.methods.dose.candidates import candidate_of, candidates, first_order
from neurodial.methods.dose.cost import Cost, Sampling, cost
from neurodial.methods.dose.effects import Effects, effects_by_fold
from neurodial.methods.dose.fit import Fitting
from neurodial.methods.dose.inputs import gather_inputs
from neurodial.methods.dose.options import Dose
from neurodial.methods.dose.refine import Refinement
from neurodial.methods.folds import fold_of_each, stability_over_folds
from neurodial.methods.searched import DevelopmentSearch, Searched, reached, rows_of
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import PairSet
from neurodial.strength.development import PathSearch


def find_doses(
    subject: Subject,
    pairs: PairSet,
    method: Dose,
    *,
    margin: BehaviourMargin | None = None,
    shows: Shows | None = None,
    progress: Progress = silent,
) -> Searched:
    """Find the neurons that hold a behaviour up, and how far to dial each.

    Raises:
        MarginError: the behaviour can't be measured by the margin asked for.
        BudgetError: nothing moves the margin as asked; a budget or a target that can't be met is reported.
        GradientError: the model gives no gradients.
        PromptError: a split is missing, its sides are rendered alike, or nearly all neutral answers show the behaviour.
    """
    inputs = gather_inputs(subject, pairs, method, margin=margin, shows=shows, progress=progress)  # 1, 2
    watch = inputs.watch
    folds = fold_of_each([example.prompt for example in inputs.about], max(1, min(method.folds, len(inputs.about))))
    with watch.part("effects"):
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
    with watch.part("costs"):
        costs = cost(subject, inputs.costing, sampling=Sampling(method.draws, method.seed), progress=progress)  # 4
    searched = DevelopmentSearch(subject, pairs, method, inputs, progress)
    development, limits = searched.development, searched.limits
    paths = {
        PathSearch(development, candidate.path(effects, costs, limits, development.unsteered.margin)): candidate
        for candidate in candidates(effects, costs, method)  # 5
    }
    with watch.part("search"):
        choice = searched.best_of(list(paths))  # 6
    chosen = paths[choice.path]
    taken, fit = choice, None
    if method.fit:
        with watch.part("fit"):
            refined = Refinement(searched, limits).fit(rows_of(choice.best.intervention), Fitting(method.fit))  # 7
        fit = refined.report(choice.best, limits, method.fit)
        if fit.taken:
            taken = replace(choice, best=refined.taken(choice.best, limits), trials=refined.trials)
    rows = rows_of(taken.best.intervention)

    def chosen_without(fold: int) -> Sequence[Row]:
        left = effects_of_folds([other for other in range(count) if other != fold])
        again = candidate_of(left, costs, method, chosen.sign, chosen.mixture)
        return again.doses.rows_at(choice.best.strength)

    stability = stability_over_folds(
        {row.neuron for row in rows},
        count if method.folds >= 2 else 0,
        lambda fold: (row.neuron for row in chosen_without(fold)),
    )
    report = searched.report(  # 8
        taken,
        fit=fit,
        cost=CostReport(costs.tokens, costs.noise),
        predicted=_predicted(effects, costs, rows, development.unsteered.margin),
        sign=chosen.sign,
        follows=chosen.mixture,
        signs=reached(choice, limits, {path: candidate.sign for path, candidate in paths.items()}),
        followed=reached(choice, limits, {path: candidate.mixture for path, candidate in paths.items()}),
    )
    return Searched(rows, chosen.effect_cost.scores, stability, report, inputs.margin)


def _predicted(effects: Effects, costs: Cost, rows: Sequence[Row], before: float) -> Predicted:
    change, diagonal = first_order(effects, costs, rows)
    return Predicted(change, before + change, diagonal)
