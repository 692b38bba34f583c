"""How far to dose, by measuring: a search along a path of doses, for the neurons of one sign or of both.

1. Effect against cost gives a path of doses; the search along it begins where they predict that the goal is met.
2. Where the margin knows which answers are aimed for, along other mixtures of effects too (`effects.py`).
3. Several ways, by the sign of the effects: one that can't meet the goal is left out where another can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch

from neurodial.circuit.circuit import Circuit, Row
from neurodial.errors import BudgetError, OptionError
from neurodial.intervention.scale import Scale
from neurodial.methods.base import Sign
from neurodial.methods.dose.cost import Cost
from neurodial.methods.dose.effects import Effects, Push
from neurodial.methods.dose.paths import Bounds, Trade, closed_path, predicted_change
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
        trials: all of them.
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
        goal: how far to go.
    """

    development: Development
    costs: Cost
    effects: Effects
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
        """The search with the neurons of a sign, begun where effect and cost predict that the goal is met."""
        effects, method = self.effects, self.development.method
        trade = Trade.of(effects.along(push), self.costs.scores, skip_layers=method.skip_layers, sign=sign)
        path = closed_path(trade, method.select, Bounds(method.x_max, method.direction))
        goal, development = self.goal, self.development

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


def first_order(effects: Effects, costs: Cost, rows: Sequence[Row]) -> tuple[float, float]:
    """Change of the margin to first order, and divergence from each neuron's own curvature."""
    places = costs.scores.places_of([row.neuron for row in rows])
    doses = torch.tensor([row.dose for row in rows], dtype=torch.float64)
    return predicted_change(effects.margin, rows), float(costs.scores.flat()[places] @ doses.square()) / 2
