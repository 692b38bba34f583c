"""Which neurons to dose, and how far: doses as a function of the strength (third step of effect and cost).

1. Damp the cost: `c_j = f_j + median f`, so that a neuron that hardly varies does not win by a division by nearly 0.
   The median is of those above 0: the experts that no neutral answer came to have no cost.
2. At strength s (one over the price of damage) the best dose of a neuron that holds the behaviour up is
   `x_j = clip(s e_j / c_j, 0, x_max)`, the maximum of `e_j x - c_j x^2 / (2 s)`.
3. Keep the neurons of largest gain `e_j x_j - c_j x_j^2 / (2 s)`. Where nothing is clipped that is the order of
   `e_j^2 / c_j`, whatever the strength.
4. Another dosing: one dose for all of the neurons of largest `e^2 / c`.
5. To induce a behaviour the doses are negative: neurons that hold it up are turned up.
6. Neurons that hold the behaviour down (negative effect) may be used as well, with the opposite doses.

The strength on such a path is found by measuring (`strength/`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.selection import Count, Select
from neurodial.errors import OptionError
from neurodial.intervention.scale import Scale
from neurodial.methods.base import Sign
from neurodial.methods.scores import Scores
from neurodial.prompts.pairs import Direction
from neurodial.strength.path import StrengthPath

SMALLEST_DOSE = 0.02  # a path begins where its largest dose is this
_HELD = {"positive": "up", "negative": "down", "both": "up or down"}
_EFFECTS = {"positive": "positive", "negative": "negative", "both": "other than zero"}


@dataclass(frozen=True)
class DosePath:
    """Doses as a function of the strength; a greater strength gives greater doses.

    Attributes:
        low: the strength at which the largest dose is still small.
        high: the strength above which no dose grows.
        rows_at: neurons with their scores and their doses at a strength.
    """

    low: float
    high: float
    rows_at: Callable[[float], tuple[Row, ...]]

    def scaled(self, details: Mapping[str, Any] | None = None, guess: float | None = None) -> StrengthPath:
        """The path of interventions: at each strength, the neurons scaled by their doses."""
        return StrengthPath(
            self.low, self.high, lambda strength: Scale(Circuit.of(self.rows_at(strength))), details or {}, guess
        )


@dataclass(frozen=True)
class Bounds:
    """The range of doses.

    Attributes:
        x_max: the largest dose; above 1 a neuron changes its sign.
        direction: `remove`: doses from 0 to x_max; `induce`: from -x_max to 0; for neurons that hold the behaviour
            down the other way round.
    """

    x_max: float
    direction: Direction = "remove"

    def signed(self, dose: float) -> float:
        """A dose with the sign of the direction."""
        return dose if self.direction == "remove" else -dose


@dataclass(frozen=True)
class EffectCost:
    """The effect and the cost of each neuron, in the order (layer, expert, index).

    Attributes:
        effect: the magnitude of e_j; 0 where a neuron is left out.
        cost: c_j, damped.
        damping: the number that was added to the cost, the median of f above 0.
        layout: to find the neuron of a place.
        sign: -1 for neurons that are used and hold the behaviour down, 1 for all others.
    """

    effect: Float[Tensor, "all"]
    cost: Float[Tensor, "all"]
    damping: float
    layout: Scores
    sign: Float[Tensor, "all"]

    @classmethod
    def of(
        cls, effect: Scores, cost: Scores, *, skip_layers: Sequence[int] = (), sign: Sign = "positive"
    ) -> EffectCost:
        """Effect against damped cost; layers to skip have no effect.

        Args:
            effect: e_j, positive where a neuron holds the behaviour up.
            cost: f_j.
            skip_layers: layers left out.
            sign: which neurons are used: those that hold the behaviour up, those that hold it down, or both.

        Raises:
            OptionError: no neuron outside the skipped layers has an effect of that sign, or nothing costs anything.

        Example:
            >>> from neurodial.circuit.site import Site
            >>> effect, cost = (Scores({Site(0): torch.tensor(values)}) for values in ([2.0, -1.0], [1.0, 1.0]))
            >>> EffectCost.of(effect, cost).ratio.tolist()
            [2.0, 0.0]
        """
        costs = cost.flat()
        if not bool((costs > 0).any()):
            raise OptionError("No neuron changes the neutral answers at all.", wanted="costs above zero")
        damping = float(costs[costs > 0].median())
        allowed = torch.cat([torch.full((effect[site].numel(),), site.layer not in skip_layers) for site in effect])
        effects = torch.where(allowed, effect.flat(), 0.0)
        taking_part = {"positive": effects > 0, "negative": effects < 0, "both": effects != 0}[sign]
        held = torch.where(taking_part, effects, 0.0)
        if not bool(taking_part.any()):
            raise OptionError(
                f"No neuron holds the behaviour {_HELD[sign]}: no effect is {_EFFECTS[sign]}.",
                wanted=f"such an effect outside layers {list(skip_layers)}",
                fix="Skip fewer layers, or check that the prompts show the behaviour.",
            )
        return cls(held.abs(), costs + damping, damping, effect, torch.where(held < 0, -1.0, 1.0).to(held))

    @property
    def ratio(self) -> Float[Tensor, "all"]:
        """`e^2 / c`, by which neurons are ranked; 0 where a neuron is left out."""
        return self.effect.square() / self.cost

    @property
    def scores(self) -> Scores:
        """`ratio` by site."""
        by_site = self.ratio.split([self.layout[site].numel() for site in self.layout])
        return Scores(
            {site: part.reshape(self.layout[site].shape) for site, part in zip(self.layout, by_site, strict=True)}
        )

    def best(self, count: int) -> list[int]:
        """Places of the neurons of largest `e^2 / c`, best first, none without an effect."""
        return self.selected(Count(count))

    def selected(self, select: Select) -> list[int]:
        """Places of the neurons that a rule chooses by `e^2 / c`, best first, none without an effect."""
        places: list[int] = _selected(select, self.ratio, self.layout.layers()).tolist()
        return places

    def rows(self, places: Sequence[int], doses: Sequence[float]) -> tuple[Row, ...]:
        """The rows of some places; a dose changes its sign where the neuron holds the behaviour down."""
        chosen = torch.tensor(list(places), dtype=torch.long)
        ratio = self.effect[chosen].square() / self.cost[chosen]
        signed = (torch.tensor(list(doses), dtype=torch.float64) * self.sign[chosen]).tolist()
        return tuple(map(Row, self.layout.neurons_at(places), ratio.tolist(), signed))


def closed_path(
    effect_cost: EffectCost, select: Select, bounds: Bounds, *, among: Sequence[int] | None = None
) -> DosePath:
    """Closed-form doses; the neurons are chosen again at each strength, by their gain.

    Args:
        effect_cost: effects and costs.
        select: which neurons, by their gain.
        bounds: of the doses.
        among: places of the neurons to choose from; all by default.
    """
    effect, cost, layers = effect_cost.effect, effect_cost.cost, effect_cost.layout.layers()
    if among is not None:
        left = torch.zeros_like(effect)
        left[list(among)] = effect[list(among)]
        effect = left

    def rows_at(strength: float) -> tuple[Row, ...]:
        doses = (strength * effect / cost).clamp(max=bounds.x_max)
        gain = effect * doses - cost * doses.square() / (2 * strength)
        chosen = _selected(select, gain, layers)
        return effect_cost.rows(chosen.tolist(), [bounds.signed(dose) for dose in doses[chosen].tolist()])

    steepest = (effect / cost).max()
    last = _selected(select, effect, layers)  # with every dose at its largest, the gain goes by the effect
    high = bounds.x_max / float((effect / cost)[last].min())
    low = min(SMALLEST_DOSE, bounds.x_max) / float(steepest)
    return DosePath(low, max(high, low), rows_at)


def uniform_path(rows: Sequence[Row], bounds: Bounds) -> DosePath:
    """One dose for all of the given neurons, times the dose they have; the strength is the dose."""

    def rows_at(strength: float) -> tuple[Row, ...]:
        dose = bounds.signed(min(strength, bounds.x_max))
        return tuple(row._replace(dose=dose * row.dose) for row in rows)

    return DosePath(min(SMALLEST_DOSE, bounds.x_max), bounds.x_max, rows_at)


def predicted_change(effect: Scores, rows: Sequence[Row]) -> float:
    """First-order change of the mean margin: minus the sum of effect times dose."""
    slopes: list[float] = effect.flat()[effect.places_of([row.neuron for row in rows])].tolist()
    return -sum(slope * row.dose for slope, row in zip(slopes, rows, strict=True))


def _selected(select: Select, strength: Float[Tensor, "all"], layers: Int[Tensor, "all"]) -> Int[Tensor, "selected"]:
    """Places by a rule of selection, none without a strength."""
    places: Tensor = select.choose(torch.where(strength > 0, strength, -torch.inf), layers)
    return places
