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

from neurodial.circuit.circuit import Circuit, Row, Stability
from neurodial.intervention.scale import Scale
from neurodial.margins.margin import Margin
from neurodial.methods.apart import check_apart
from neurodial.methods.dose.candidates import Ground, Way, first_order
from neurodial.methods.dose.cost import Cost, Sampling, cost, quadratic_cost
from neurodial.methods.dose.effects import Effects, effects_by_fold
from neurodial.methods.dose.inputs import gather
from neurodial.methods.dose.options import Dose
from neurodial.methods.dose.paths import Bounds, Trade, closed_path
from neurodial.methods.scores import Scores
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import PairSet
from neurodial.prompts.prompt import Example
from neurodial.provenance import canonical_json, sha256
from neurodial.strength.development import Development, mean_of
from neurodial.strength.limits import Goal, Trial, better


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
        PromptError: a split is missing, its sides are rendered alike, or neutral prompts show the behaviour.
    """
    for contrast in (pairs.discovery, pairs.development):
        check_apart(subject, contrast, system=method.system)
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
    development = Development(subject, material, material.development[0], method, progress)
    goal = _goal(development)
    ground = Ground(development, costs, effects=first(every), effects_again=lambda: by_fold()(every), goal=goal)
    way, ways = ground.best_way()
    best = way.best
    fisher = quadratic_cost(
        subject, material.costing, [row.neuron for row in best.rows], sampling=sampling, progress=progress
    )
    others = development.means(material.development[1], [None, Scale(Circuit.of(best.rows))])
    report = {
        **material.report(),
        "cost": {"tokens": costs.tokens, "split_half_noise": costs.noise},
        "goal": {"budget": goal.budget, "margin": goal.target, "reached": goal.target is None or goal.reaches(best)},
        "predicted": _predicted(way, costs, fisher, development.unsteered.margin),
        "measured": _measured(development, goal, best, [margin for margin, _ in others]),
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


def _goal(development: Development) -> Goal:
    """The goal that the method asks for; without any, the margin of the other side's prompts."""
    method = development.method
    if method.budget is None and method.margin_target is None:
        [(other, _)] = development.means(development.material.development[1], [None])
        return development.goal(None, other, must=False)
    return development.goal(method.budget, method.margin_target)


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


def _measured(development: Development, goal: Goal, best: Trial, others: Sequence[float]) -> dict[str, float | int]:
    """What the doses came to, and what the unsteered model had; `others`: the same of the other side's margin."""
    before = development.unsteered
    found = {"margin_before": before.margin, "margin": best.margin, "margin_change": best.margin - before.margin}
    found |= {"other_side_before": others[0], "other_side": others[1]}
    found |= {"divergence": best.divergence, "divergence_standard_error": best.error}
    if goal.least_aim is not None:
        found |= {"aim_before": before.aim, "aim": best.aim}
    if best.degenerate is not None and before.degenerate is not None:
        found |= {"degenerate_before": before.degenerate, "degenerate": best.degenerate}
    return {**found, "tokens": sum(passage.scored for passage in development.material.damage)}


def _trial_values(trial: Trial) -> dict[str, float]:
    doses = [abs(row.dose) for row in trial.rows]
    answers = {} if trial.degenerate is None else {"degenerate": trial.degenerate}
    return {
        **answers,
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
