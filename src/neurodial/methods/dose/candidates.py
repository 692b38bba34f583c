"""How far to dose, by measuring: a search along a path of doses, for the neurons of one sign or of both.

1. Effect against cost gives a path of doses; the search along it begins where they predict that the goal is met.
2. Where the margin knows which answers are aimed for, along other mixtures of effects too (`effects.py`).
3. Again, as often as asked for, with the mean of the effects at the unsteered model and at the doses found.
4. Several ways, by the sign of the effects: one that can't meet the goal is left out where another can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch

from neurodial.circuit.circuit import Circuit, Row
from neurodial.errors import BudgetError, OptionError
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.methods.base import Sign
from neurodial.methods.dose.cost import Cost, Sampling, quadratic_cost
from neurodial.methods.dose.effects import Effects, Push
from neurodial.methods.dose.paths import Bounds, DosePath, Trade, closed_path, full_path, predicted_change, uniform_path
from neurodial.strength.development import Development
from neurodial.strength.limits import Goal, Trial, better
from neurodial.strength.search import crossing, search


@dataclass(frozen=True)
class Way:
    """What neurons of a sign were found to do.

    Attributes:
        sign: of the effects.
        push: what was pushed along.
        effects: from which the doses follow.
        trade: effect against cost.
        best: the trial that was kept.
        trials: all of them, of every round.
    """

    sign: Sign
    push: Push
    effects: Effects
    trade: Trade
    best: Trial
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Ground:
    """What every way is searched on.

    Attributes:
        development: the split that is measured on, with the model, the neutral answers and the method's options.
        costs: of every neuron.
        effects: of the unsteered model.
        effects_again: takes them anew, under the steering around the call.
        goal: how far to go.
    """

    development: Development
    costs: Cost
    effects: Effects
    effects_again: Callable[[], Effects]
    goal: Goal

    def best_way(self) -> tuple[Way, list[Way]]:
        """The way that goes further, or does less damage where there is a target; and all that meet the goal.

        Raises:
            BudgetError: none meets the goal.
            OptionError: there is no neuron to go with.
        """
        asked = self.development.method.sign
        signs: tuple[Sign, ...] = ("positive", "both") if asked == "tuned" else (asked,)
        ways, problems = [], []
        for sign, push in product(signs, self.effects.pushes):
            try:
                ways.append(self.along(sign, push))
            except (BudgetError, OptionError) as error:
                problems.append(error)
        if not ways:
            raise problems[-1]
        best = ways[0]
        for way in ways[1:]:
            best = best if better(best.best, way.best, self.goal) is best.best else way
        return best, ways

    def along(self, sign: Sign, push: Push = "margin") -> Way:
        """The search with the neurons of a sign."""
        way = self._searched(self.effects, sign, push)
        effects = self.effects
        for done in range(1, self.development.method.rounds):
            with steer(self.development.subject, Scale(Circuit.of(way.best.rows))):
                there = self.effects_again()
            effects = effects.mean_with(there, 1 / (done + 1))
            again = self._searched(effects, sign, push)
            kept = way if better(way.best, again.best, self.goal) is way.best else again
            way = replace(kept, trials=(*way.trials, *again.trials))
        return way

    def _searched(self, effects: Effects, sign: Sign, push: Push) -> Way:
        """The search along the path of some effects, begun where effect and cost predict that the goal is met."""
        trade = Trade.of(
            effects.along(push), self.costs.scores, skip_layers=self.development.method.skip_layers, sign=sign
        )
        path, goal, development = self._path(trade), self.goal, self.development

        def measure(strengths: Sequence[float]) -> list[Trial]:
            rows = [path.rows_at(strength) for strength in strengths]
            return development.trials(strengths, [Scale(Circuit.of(found)) for found in rows], rows)

        def answer(strengths: Sequence[float]) -> list[float]:
            return development.degenerate([Scale(Circuit.of(path.rows_at(strength))) for strength in strengths])

        def falls_short(strength: float) -> bool:
            change, divergence = first_order(effects, self.costs, path.rows_at(strength))
            if goal.target is None:
                return goal.budget is None or divergence < goal.budget
            return goal.lack_at(development.unsteered.margin + change) > 0

        guess = crossing(falls_short, path.low, path.high)
        found = search(path.low, path.high, measure, goal, answer=answer, guess=guess)
        return Way(sign, push, effects, trade, *found)

    def _path(self, trade: Trade) -> DosePath:
        method = self.development.method
        bounds = Bounds(method.x_max, method.direction)
        if method.dosing == "closed":
            return closed_path(trade, method.select, bounds)
        chosen = trade.best(method.select.count(trade.effect.numel()))
        if method.dosing == "uniform":
            return uniform_path(trade.rows(chosen, [1.0] * len(chosen)), bounds)
        sampling = Sampling(method.draws, method.seed)
        neurons = trade.layout.neurons_at(chosen)
        fisher = quadratic_cost(self.development.subject, self.development.material.costing, neurons, sampling=sampling)
        return full_path(trade, chosen, fisher, bounds)


def first_order(effects: Effects, costs: Cost, rows: Sequence[Row]) -> tuple[float, float]:
    """Change of the margin to first order, and divergence from each neuron's own curvature."""
    places = costs.scores.places_of([row.neuron for row in rows])
    doses = torch.tensor([row.dose for row in rows], dtype=torch.float64)
    return predicted_change(effects.margin, rows), float(costs.scores.flat()[places] @ doses.square()) / 2
