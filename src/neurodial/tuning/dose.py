"""Effect and cost end to end: prompts in, neurons with measured doses out.

1. The behaviour's margin: openers found in the model's own answers to the discovery prompts, or whole answers.
2. The model's own answers to neutral prompts, for the cost (discovery split) and for the damage (development split).
   Neutral answers that show the behaviour are refused.
3. Effect on the prompts that show the behaviour (to remove it) or lack it (to induce it), by prompt fold.
4. Cost of every neuron.
5. A path of doses (`attribution.dose`), and how far to go along it, found by measuring on the development split.
6. Again, as often as asked for, with the mean of the effects at the unsteered model and at the doses found.
7. Both once with the neurons that hold the behaviour up alone, once with those that hold it down as well, unless one is
   asked for; what goes further on the development split is kept.
8. The report: what was predicted, what was measured. Stability: what is chosen again without each fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from neurodial.attribution.cost import Cost, Sampling, cost, quadratic_cost
from neurodial.attribution.dose import Bounds, Trade, closed_path
from neurodial.attribution.methods import Dose
from neurodial.attribution.scores import Scores
from neurodial.circuit.circuit import Circuit, Row, Stability
from neurodial.intervention.scale import Scale
from neurodial.measurement.margin import Margin
from neurodial.measurement.measure_margins import measure_margins
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import PairSet
from neurodial.prompts.prompt import Example
from neurodial.provenance import canonical_json, sha256
from neurodial.tuning.effects import Effects, effects_by_fold
from neurodial.tuning.material import Material, gather
from neurodial.tuning.search import Goal, Trial
from neurodial.tuning.ways import Ground, Way, better, first_order, mean_of, means_under, measurer


@dataclass(frozen=True)
class Dosed:
    """What effect and cost found.

    Attributes:
        rows: neurons with scores `e^2 / c` and doses.
        scores: `e^2 / c` of every neuron, 0 where it does not hold the behaviour up.
        stability: over prompt folds, or None where it was not asked for.
        report: predicted and measured margin and divergence, openers, noise, and every trial; plain JSON values.
    """

    rows: tuple[Row, ...]
    scores: Scores
    stability: Stability | None
    report: dict[str, Any]


def find_doses(
    subject: Subject, pairs: PairSet, method: Dose, *, margin: Margin | None = None, progress: Progress = silent
) -> Dosed:
    """Find the neurons that hold a behaviour up, and how far to dial each.

    Raises:
        MarginError: the behaviour can't be measured by the margin asked for.
        BudgetError: the budget or the target can't be met.
        GradientError: the model gives no gradients.
        PromptError: a split is missing, or neutral prompts show the behaviour.
    """
    material = gather(subject, pairs, method, margin=margin, progress=progress)
    examples = material.about(pairs.discovery)
    folds = _folds(examples, max(1, min(method.folds, len(examples))))

    def by_fold() -> Callable[[Sequence[int]], Effects]:
        return effects_by_fold(
            subject, material.margin, examples, method.direction, folds=folds, system=method.system, progress=progress
        )

    every = range(1 + max(folds))
    sampling = Sampling(method.draws, method.seed)
    costs = cost(subject, material.costing, sampling=sampling, progress=progress)
    first = by_fold()
    goal, before = _goal(subject, material, method)
    ground = Ground(
        subject,
        material,
        method,
        costs,
        effects=first(every),
        effects_again=lambda: by_fold()(every),
        goal=goal,
        before=before[0],
        measure=measurer(subject, material, method, progress),
    )
    way, ways = ground.best_way()
    best = way.best
    fisher = quadratic_cost(
        subject, material.costing, [row.neuron for row in best.rows], sampling=sampling, progress=progress
    )
    dosed = [Scale(Circuit.of(best.rows))]
    [other] = means_under(subject, material.margin, material.development[1], dosed, system=method.system)
    report = {
        **material.report(),
        "cost": {"tokens": costs.tokens, "split_half_noise": costs.noise},
        "goal": {"budget": goal.budget, "margin": goal.target, "reached": goal.target is None or goal.reaches(best)},
        "predicted": _predicted(way, costs, fisher, before[0]),
        "measured": _measured(best, goal, before, other, material),
        "sign": way.sign,
        "push": way.push,
        "signs": _reached(ways, goal, lambda one: one.sign),
        "pushes": _reached(ways, goal, lambda one: one.push),
        "trials": [_trial_values(trial) for trial in way.trials],
    }
    stability = None
    if method.folds >= 2 and max(folds) >= 1:
        stability = _stability(first, costs, method, way, folds=1 + max(folds))
    return Dosed(best.rows, way.trade.scores, stability, report)


def _goal(subject: Subject, material: Material, method: Dose) -> tuple[Goal, tuple[float, float]]:
    """The goal, and the mean margins of the unsteered model on the development prompts of either side."""
    about, other = material.development
    found = measure_margins(subject, material.margin, [*about, *other], system=method.system)
    before = mean_of(found[: len(about)]), mean_of(found[len(about) :])
    aim = material.margin.aim(method.direction)
    least = None if aim is None else mean_of(measure_margins(subject, aim, about, system=method.system))
    if method.budget is None and method.margin_target is None:
        return Goal(None, before[1], method.direction, must=False, least_aim=least), before
    return Goal(method.budget, method.margin_target, method.direction, least_aim=least), before


def _reached(ways: Sequence[Way], goal: Goal, name: Callable[[Way], str]) -> dict[str, dict[str, float]]:
    """What the best way of each name came to."""
    found: dict[str, Way] = {}
    for way in ways:
        if name(way) not in found or better(found[name(way)].best, way.best, goal) is way.best:
            found[name(way)] = way
    return {key: {"margin": way.best.margin, "divergence": way.best.divergence} for key, way in found.items()}


def _predicted(way: Way, costs: Cost, fisher: torch.Tensor, before: float) -> dict[str, float]:
    doses = torch.tensor([row.dose for row in way.best.rows], dtype=torch.float64)
    change, diagonal = first_order(way.effects, costs, way.best.rows)
    return {
        "margin_change": change,
        "margin": before + change,
        "divergence_diagonal": diagonal,
        "divergence": float(doses @ fisher @ doses) / 2,
    }


def _measured(
    best: Trial, goal: Goal, before: tuple[float, float], other: float, material: Material
) -> dict[str, float | int]:
    aims = {} if goal.least_aim is None else {"aim_before": goal.least_aim, "aim": best.aim}
    return {
        **aims,
        "margin_before": before[0],
        "margin": best.margin,
        "margin_change": best.margin - before[0],
        "other_side_before": before[1],
        "other_side": other,
        "divergence": best.divergence,
        "divergence_standard_error": best.error,
        "tokens": sum(passage.scored for passage in material.damage),
    }


def _trial_values(trial: Trial) -> dict[str, float]:
    doses = [abs(row.dose) for row in trial.rows]
    return {
        "strength": trial.strength,
        "divergence": trial.divergence,
        "margin": trial.margin,
        "mean_dose": mean_of(doses),
        "largest_dose": max(doses),
    }


def _stability(
    of_folds: Callable[[Sequence[int]], Effects], costs: Cost, method: Dose, way: Way, *, folds: int
) -> Stability:
    """What is chosen again at the same strength when the effect is taken without one fold of the prompts."""
    chosen = {row.neuron for row in way.best.rows}
    again = []
    for left_out in range(folds):
        scores = of_folds([fold for fold in range(folds) if fold != left_out]).along(way.push)
        trade = Trade.of(scores, costs.scores, skip_layers=method.skip_layers, sign=way.sign)
        if method.dosing == "closed":
            rows = closed_path(trade, method.select, Bounds(method.x_max, method.direction)).rows_at(way.best.strength)
        else:
            best = trade.best(len(chosen))
            rows = trade.rows(best, [1.0] * len(best))
        again.append(chosen & {row.neuron for row in rows})
    ordered = sorted(chosen, key=lambda neuron: (*neuron.site.order, neuron.index))
    return Stability(
        overlaps=tuple(len(part) / len(chosen) for part in again),
        kept=tuple(sum(neuron in part for part in again) / folds for neuron in ordered),
    )


def _folds(examples: Sequence[Example], count: int) -> list[int]:
    """The fold of each prompt, dealt in the order of the prompts' hashes."""
    keys = [sha256(canonical_json(repr(example.prompt))) for example in examples]
    ranks = {key: rank for rank, key in enumerate(sorted(keys))}
    return [ranks[key] % count for key in keys]
