"""The paths that doses may take: neurons of one sign of effect or of both, along one mixture of effects each.

1. Effect against cost gives a path of doses; the search along it begins where they predict that the limits are met.
2. Where the margin knows reference answers, along other mixtures of effects too (`effects.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch

from neurodial.circuit.circuit import Row
from neurodial.errors import OptionError
from neurodial.methods.base import Sign
from neurodial.methods.dose.cost import Cost
from neurodial.methods.dose.effects import Effects, Mixture
from neurodial.methods.dose.options import Dose
from neurodial.methods.dose.paths import Bounds, DosePath, EffectCost, closed_path, predicted_change, uniform_path
from neurodial.strength.limits import Limits
from neurodial.strength.path import StrengthPath
from neurodial.strength.search import crossing


@dataclass(frozen=True)
class Candidate:
    """A path of doses, and the effects that it follows.

    Attributes:
        sign: of the effects that are used.
        mixture: of effects that the doses follow.
        effect_cost: effect against cost.
        doses: the path.
    """

    sign: Sign
    mixture: Mixture
    effect_cost: EffectCost
    doses: DosePath

    def path(self, effects: Effects, costs: Cost, limits: Limits, before: float) -> StrengthPath:
        """The path of interventions, with a first guess where effect and cost predict that the limits are met.

        Args:
            effects: of every neuron.
            costs: of every neuron.
            limits: to keep.
            before: the margin of the unsteered model.
        """

        def falls_short(strength: float) -> bool:
            change, divergence = first_order(effects, costs, self.doses.rows_at(strength))
            if limits.target is None:
                return limits.budget is None or divergence < limits.budget
            return limits.distance_at(before + change) > 0

        guess = crossing(falls_short, self.doses.low, self.doses.high)
        return self.doses.scaled({"sign": self.sign, "follows": self.mixture}, guess)


def candidates(effects: Effects, costs: Cost, method: Dose) -> list[Candidate]:
    """Every path that the method's options allow.

    Raises:
        OptionError: no neuron can be used.
    """
    signs: tuple[Sign, ...] = ("positive", "both") if method.sign == "tuned" else (method.sign,)
    built: list[Candidate] = []
    problems: list[OptionError] = []
    for sign, mixture in product(signs, effects.mixtures):
        try:
            built.append(candidate_of(effects, costs, method, sign, mixture))
        except OptionError as error:
            problems.append(error)
    if not built:
        raise problems[-1]
    return built


def candidate_of(effects: Effects, costs: Cost, method: Dose, sign: Sign, mixture: Mixture = "margin") -> Candidate:
    """The path along some effects with the neurons of a sign.

    Raises:
        OptionError: no neuron has an effect of that sign.
    """
    effect_cost = EffectCost.of(effects.along(mixture), costs.scores, skip_layers=method.skip_layers, sign=sign)
    bounds = Bounds(method.x_max, method.direction)
    if method.dosing == "closed":
        return Candidate(sign, mixture, effect_cost, closed_path(effect_cost, method.select, bounds))
    chosen = effect_cost.selected(method.select)
    rows = effect_cost.rows(chosen, [1.0] * len(chosen))
    return Candidate(sign, mixture, effect_cost, uniform_path(rows, bounds))


def first_order(effects: Effects, costs: Cost, rows: Sequence[Row]) -> tuple[float, float]:
    """Change of the margin to first order, and divergence from each neuron's own curvature."""
    places = costs.scores.places_of([row.neuron for row in rows])
    doses = torch.tensor([row.dose for row in rows], dtype=torch.float64)
    return predicted_change(effects.margin, rows), float(costs.scores.flat()[places] @ doses.square()) / 2
