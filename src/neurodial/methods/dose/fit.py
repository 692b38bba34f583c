"""Doses of chosen neurons, refined by gradient steps on the true objective (METHOD.md section 3.8).

1. `L(x) = margin(x) + mu * (KL(x) - budget)` on discovery prompts and neutral answers, to lower (to induce, minus the
   margin); with a target the margin counts down to it, and no further.
2. `mu`, the price of damage, comes from the slopes where the fit begins: that at which the doses there would be best,
   by least squares over the neurons. With a budget and no target it then follows the damage: `mu (KL / budget)^0.1`
   after each step, so that the fit ends at the budget.
3. Adam steps on the doses, each in units of its scale `s_j`, clipped to the bounds; the step falls as a cosine.
4. Every few steps the same objective is measured on the development split. Its best doses are kept, and the fit stops
   early where it has not improved for some measurements.

This trains as many numbers as there are neurons; no weight changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.errors import OptionError

Doses = Float[Tensor, "chosen"]

_BETAS = (0.9, 0.99)
_LAST = 0.1  # of the step, at the end
_FOLLOWS = 0.1  # power of the damage over the budget by which the price moves


class Point(NamedTuple):
    """Margin and divergence under some doses."""

    margin: float
    divergence: float


class Slope(NamedTuple):
    """Margin and divergence under some doses, with their slopes in each."""

    margin: float
    divergence: float
    of_margin: Doses
    of_divergence: Doses


@dataclass(frozen=True)
class Price:
    """What margin and damage count.

    Attributes:
        budget: nats per token to end at; None: as few as the target allows.
        target: the margin from which on it counts no more; None: it always counts.
        sign: 1 to lower the margin, -1 to raise it.
        mu: the price of a nat per token.
    """

    budget: float | None
    target: float | None
    sign: float
    mu: float

    def of(self, point: Point | Slope) -> float:
        """The objective; less is better.

        Example:
            >>> round(Price(budget=0.1, target=None, sign=1.0, mu=2.0).of(Point(1.0, 0.3)), 3)
            1.4
        """
        gained = self.sign * (point.margin - (self.target or 0.0))
        if self.target is not None:
            gained = max(0.0, gained)
        return gained + self.mu * (point.divergence - (self.budget or 0.0))

    def slope(self, at: Slope) -> Doses:
        """Its slope in each dose."""
        still = self.target is None or self.sign * (at.margin - self.target) > 0
        return self.sign * at.of_margin * still + self.mu * at.of_divergence

    def after(self, at: Slope) -> Price:
        """The price at the next step."""
        if self.budget is None or self.target is not None:
            return self
        ratio = min(2.0, max(0.5, at.divergence / self.budget))
        return replace(self, mu=self.mu * ratio**_FOLLOWS)


@dataclass(frozen=True)
class Fitting:
    """How doses are fitted.

    Attributes:
        steps: gradient steps, at most.
        step: the first step, as a share of each dose's scale.
        every: steps between two measurements on the development split.
        patience: measurements without an improvement, after which it stops.

    Example:
        >>> Fitting(30).every
        5
    """

    steps: int
    step: float = 0.1
    every: int = 5
    patience: int = 2

    def __post_init__(self) -> None:
        if self.steps < 1 or self.every < 1 or self.patience < 1 or not 0 < self.step < math.inf:
            raise OptionError(f"The fit is {self}.", wanted="at least 1 step, and a step above 0")


@dataclass(frozen=True)
class Fitted:
    """The best doses on the development split.

    Attributes:
        doses: these doses.
        steps: after how many steps they were reached; 0 where none improved on the beginning.
        made: how many steps were made.
        objective: on the development split, at the beginning and after each measurement, at the last price.
    """

    doses: Doses
    steps: int
    made: int
    objective: tuple[float, ...]


def price_of(at: Slope, *, budget: float | None, target: float | None, sign: float) -> Price:
    """The price of damage where a fit begins (2).

    Example:
        >>> slope = Slope(1.0, 0.1, torch.tensor([-4.0, -2.0]), torch.tensor([2.0, 1.0]))
        >>> price_of(slope, budget=0.1, target=None, sign=1.0).mu, price_of(slope, budget=None, target=0, sign=1.0).mu
        (2.0, 2.0)
    """
    gained, paid = -sign * at.of_margin.double(), at.of_divergence.double()
    mu = max(0.0, float(gained @ paid) / max(float(paid @ paid), 1e-30))
    if mu == 0.0:  # damage has no slope yet, or falls along with the margin
        mu = float(gained.norm()) / max(float(paid.norm()), 1e-30)
    return Price(budget, target, sign, mu)


def fit_doses(
    start: Doses,
    bounds: tuple[Doses, Doses],
    scale: Doses,
    slope: Callable[[Doses], Slope],
    develop: Callable[[Doses], Point],
    price: Price,
    fitting: Fitting,
) -> Fitted:
    """Refine doses.

    Args:
        start: the doses to begin with; float64.
        bounds: the least and the greatest dose of each.
        scale: a typical change of each dose.
        slope: margin, divergence and slopes on the discovery split.
        develop: margin and divergence on the development split.
        price: what they count.
        fitting: how.
    """
    doses = start.clone()
    first, second = torch.zeros_like(doses), torch.zeros_like(doses)
    measured = [(0, doses, develop(doses))]
    made = 0
    for step in range(1, fitting.steps + 1):
        found = slope(doses)
        price = price.after(found)
        gradient = price.slope(found) * scale
        first = _BETAS[0] * first + (1 - _BETAS[0]) * gradient
        second = _BETAS[1] * second + (1 - _BETAS[1]) * gradient.square()
        direction = (first / (1 - _BETAS[0] ** step)) / ((second / (1 - _BETAS[1] ** step)).sqrt() + 1e-12)
        share = _LAST + (1 - _LAST) * (1 + math.cos(math.pi * (step - 1) / fitting.steps)) / 2
        doses = torch.minimum(torch.maximum(doses - fitting.step * share * scale * direction, bounds[0]), bounds[1])
        made = step
        if step % fitting.every and step != fitting.steps:
            continue
        measured.append((step, doses, develop(doses)))
        objective = [price.of(point) for _, _, point in measured]
        if len(objective) - 1 - objective.index(min(objective)) >= fitting.patience:
            break
    objective = [price.of(point) for _, _, point in measured]
    best_step, best, _ = measured[objective.index(min(objective))]
    return Fitted(best, best_step, made, tuple(objective))
