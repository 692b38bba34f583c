"""How far to dose, by measuring: a search along a path of doses, for the neurons of one sign or of both.

1. Effect against cost gives a path of doses; the search along it begins where they predict that the goal is met.
2. Where the margin turns back before the budget is spent, again with smaller bounds on the doses, while that helps:
   a few large doses break a model at less damage than many small ones.
3. Again, as often as asked for, with the mean of the effects at the unsteered model and at the doses found.
4. Several ways, by the sign of the effects: one that can't meet the goal is left out where another can.
5. Where asked for, on past the turn of the margin along the way that was kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from neurodial.attribution.cost import Cost, Sampling, quadratic_cost
from neurodial.attribution.dose import Bounds, DosePath, Trade, closed_path, full_path, predicted_change, uniform_path
from neurodial.attribution.methods import Dose, Sign
from neurodial.attribution.scores import Scores
from neurodial.circuit.circuit import Circuit, Row
from neurodial.errors import BudgetError, OptionError
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.measurement.divergence import measure_divergence
from neurodial.measurement.measure_margins import measure_margins
from neurodial.model.subject import Subject
from neurodial.progress import Progress
from neurodial.tuning.material import Material
from neurodial.tuning.search import Goal, Trial, crossing, insist, past_turn, search, turned_back

BOUNDS = (1.0, 1 / 10, 1 / 30, 1 / 90)
"""Shares of the largest dose that are tried in turn, for as long as the margin turns back and each helps."""

Measure = Callable[[DosePath], Callable[[Sequence[float]], list[Trial]]]
"""Measures strengths of a path on the development split."""


@dataclass(frozen=True)
class Way:
    """What neurons of a sign were found to do.

    Attributes:
        sign: of the effects.
        trade: effect against cost.
        x_max: the largest dose allowed on its path.
        path: of doses, that the best trial lies on.
        best: the trial that was kept.
        trials: all along that path.
        elsewhere: those along other paths, of larger or smaller bounds and of other rounds.
    """

    sign: Sign
    trade: Trade
    x_max: float
    path: DosePath
    best: Trial
    trials: tuple[Trial, ...]
    elsewhere: tuple[Trial, ...] = ()


@dataclass(frozen=True)
class Ground:
    """What every way is searched on.

    Attributes:
        subject: the model.
        material: margin, development prompts and neutral answers.
        method: its options.
        costs: of every neuron.
        effects: of the unsteered model.
        effects_again: takes them anew, under the steering around the call.
        goal: how far to go.
        before: the unsteered model's mean margin.
        measure: measures strengths of a path.
    """

    subject: Subject
    material: Material
    method: Dose
    costs: Cost
    effects: Scores
    effects_again: Callable[[], Scores]
    goal: Goal
    before: float
    measure: Measure

    def best_way(self) -> tuple[Way, list[Way]]:
        """The way that goes further, or does less damage where there is a target; and all that meet the goal.

        Raises:
            BudgetError: none meets the goal.
            OptionError: there is no neuron to go with.
        """
        signs: tuple[Sign, ...] = ("positive", "both") if self.method.sign == "tuned" else (self.method.sign,)
        ways, problems = [], []
        for sign in signs:
            try:
                ways.append(self.along(sign))
            except (BudgetError, OptionError) as error:
                problems.append(error)
        if not ways:
            raise problems[-1]
        best = ways[0]
        for way in ways[1:]:
            best = best if better(best.best, way.best, self.goal) is best.best else way
        return best, ways

    def along(self, sign: Sign) -> Way:
        """The search with the neurons of a sign."""
        way = self._within_bounds(self.effects, sign)
        effects = self.effects
        for done in range(1, self.method.rounds):
            with steer(self.subject, Scale(Circuit.of(way.best.rows))):
                there = self.effects_again()
            effects = _mean(effects, there, weight=1 / (done + 1))
            way = self._better(way, self._within_bounds(effects, sign))
        insist(way.best, [*way.elsewhere, *way.trials], self.goal)
        return way

    def past_turn(self, way: Way) -> Way:
        """Further along the same path, as far as the margin is no worse than the unsteered model's."""
        measure = self.measure(way.path)
        furthest, trials = past_turn(way.trials, way.best, measure, self.goal, self.before, way.path.high)
        return replace(way, best=furthest, trials=trials)

    def _within_bounds(self, effects: Scores, sign: Sign) -> Way:
        """The search with the largest dose that is allowed, or a smaller one where that goes further."""
        way = self._searched(effects, sign, self.method.x_max)
        if self.method.dosing == "uniform":  # its path is the same
            return way
        for share in BOUNDS[1:]:
            if self.goal.reaches(way.best) or not turned_back(way.best, way.trials, self.goal):
                break
            smaller = self._searched(effects, sign, self.method.x_max * share)
            way = self._better(way, smaller)
            if way.x_max != smaller.x_max:
                break
        return way

    def _better(self, first: Way, second: Way) -> Way:
        """The way of the better trial, with the trials of the other."""
        kept, other = (first, second) if better(first.best, second.best, self.goal) is first.best else (second, first)
        return replace(kept, elsewhere=(*kept.elsewhere, *other.elsewhere, *other.trials))

    def _searched(self, effects: Scores, sign: Sign, x_max: float) -> Way:
        """The search along the path of some effects, begun where effect and cost predict that the goal is met."""
        trade = Trade.of(effects, self.costs.scores, skip_layers=self.method.skip_layers, sign=sign)
        path, goal = self._path(trade, x_max), replace(self.goal, must=False)

        def falls_short(strength: float) -> bool:
            change, divergence = first_order(trade, self.costs, path.rows_at(strength))
            if goal.target is None:
                return divergence < (goal.budget or 0.0)
            return goal.lack_at(self.before + change) > 0

        free = goal.target is None and goal.budget is None
        guess = None if free else crossing(falls_short, path.low, path.high)
        return Way(sign, trade, x_max, path, *search(path.low, path.high, self.measure(path), goal, guess=guess))

    def _path(self, trade: Trade, x_max: float) -> DosePath:
        method = self.method
        bounds = Bounds(x_max, method.direction)
        if method.dosing == "closed":
            return closed_path(trade, method.select, bounds)
        chosen = trade.best(method.select.count(trade.effect.numel()))
        if method.dosing == "uniform":
            return uniform_path(trade.rows(chosen, [1.0] * len(chosen)), bounds)
        sampling = Sampling(method.draws, method.seed)
        neurons = trade.layout.neurons_at(chosen)
        fisher = quadratic_cost(self.subject, self.material.costing, neurons, sampling=sampling)
        return full_path(trade, chosen, fisher, bounds)


def measurer(subject: Subject, material: Material, method: Dose, progress: Progress) -> Measure:
    """Damage on the neutral answers and mean margin on the development prompts, of many strengths together."""
    examples = list(material.development[0])

    def of(path: DosePath) -> Callable[[Sequence[float]], list[Trial]]:
        def measure(strengths: Sequence[float]) -> list[Trial]:
            rows = [path.rows_at(strength) for strength in strengths]
            scales = [Scale(Circuit.of(found)) for found in rows]
            divergences = measure_divergence(subject, material.damage, scales, progress=progress)
            margins = measure_margins(
                subject,
                material.margin,
                examples * len(scales),
                under=[scale for scale in scales for _ in examples],
                system=method.system,
                progress=progress,
            )
            parts = [margins[n * len(examples) : (n + 1) * len(examples)] for n in range(len(scales))]
            return [
                Trial(
                    strength,
                    found,
                    divergence.mean,
                    0.0 if len(divergence.scored) < 2 else divergence.standard_error,
                    mean_of(part),
                )
                for strength, found, divergence, part in zip(strengths, rows, divergences, parts, strict=True)
            ]

        return measure

    return of


def better(first: Trial, second: Trial, goal: Goal) -> Trial:
    """The better of two trials that both meet the goal: by damage where there is a target, else by margin."""
    if goal.target is not None and goal.reaches(first) and goal.reaches(second):
        return min(first, second, key=lambda trial: trial.divergence)
    return min(first, second, key=goal.lack)


def first_order(trade: Trade, costs: Cost, rows: Sequence[Row]) -> tuple[float, float]:
    """Change of the margin to first order, and divergence from each neuron's own curvature."""
    places = trade.layout.places_of([row.neuron for row in rows])
    doses = torch.tensor([row.dose for row in rows], dtype=torch.float64)
    change = predicted_change(trade, rows, dict(zip((row.neuron for row in rows), places, strict=True)))
    return change, float(costs.scores.flat()[places] @ doses.square()) / 2


def _mean(first: Scores, second: Scores, *, weight: float) -> Scores:
    """The mean of two scores; `weight` of the second."""
    return Scores({site: (1 - weight) * first[site] + weight * second[site].to(first[site]) for site in first})


def mean_of(values: Sequence[float]) -> float:
    """The mean of some numbers; 0 of none."""
    return sum(values) / max(1, len(values))
