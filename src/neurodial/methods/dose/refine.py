"""A circuit's doses fitted to the true objective, and set to the limits by the one search.

1. `fit.py` refines the doses on the discovery prompts and the neutral answers for the cost.
2. The fitted doses, times one common strength, are searched on the development split as every path is.
Each step costs two forward and two backward passes (over the prompts, over the answers); each measurement a forward
pass over both development sets. Inside `keeping` every step is kept, so a fit that was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.report import FitReport, Reached
from neurodial.errors import BudgetError
from neurodial.generation.divergence import unsteered_states
from neurodial.intervention.scale import Scale
from neurodial.methods.dose.dose_slopes import DoseSlopes, dose_slopes
from neurodial.methods.dose.fit import Doses, Fitted, Fitting, Point, Slope, fit_doses, price_of
from neurodial.methods.searched import DevelopmentSearch
from neurodial.strength.development import PathSearch
from neurodial.strength.limits import Limits, Trial, better
from neurodial.strength.path import StrengthPath

_AROUND = (0.5, 1.25)  # of the fitted doses, where their common strength is searched


@dataclass(frozen=True)
class Refined:
    """What a fit came to.

    Attributes:
        fitted: the fit itself.
        best: of the fitted doses at a common strength, the best trial within the limits; None where none keeps them.
        trials: every strength that was measured.
    """

    fitted: Fitted
    best: Trial | None
    trials: tuple[Trial, ...]

    def taken(self, before: Trial, limits: Limits) -> Trial:
        """The better of what stood before the fit and what it found."""
        return before if self.best is None else better(before, self.best, limits)

    def report(self, before: Trial, limits: Limits, asked: int) -> FitReport:
        """What a circuit's file says of it."""
        return FitReport(
            asked,
            self.fitted.made,
            self.fitted.steps,
            Reached(before.margin, before.divergence),
            None if self.best is None else Reached(self.best.margin, self.best.divergence),
            self.taken(before, limits) is not before,
        )


@dataclass(frozen=True)
class Refinement:
    """Where doses are fitted.

    Attributes:
        searched: the method's options, prompts, neutral answers and development split.
        limits: to keep.
    """

    searched: DevelopmentSearch
    limits: Limits

    def fit(self, rows: Sequence[Row], fitting: Fitting) -> Refined:
        """Fit the doses of some neurons, from those that they have.

        Each dose stays on its side of 0, within the method's largest.

        Raises:
            GradientError: the model gives no gradients.
        """
        known: dict[tuple[float, ...], Slope] = {}

        def slope(doses: Doses) -> Slope:
            key = tuple(doses.tolist())
            if key not in known:
                found = self.slopes(scaled(rows, doses))
                places = found.of_margin.places_of([row.neuron for row in rows])
                own = (scores.flat()[places] for scores in (found.of_margin, found.of_divergence))
                known[key] = Slope(found.margin, found.divergence, *own)
            return known[key]

        def develop(doses: Doses) -> Point:
            [trial] = self.searched.development.trials([1.0], [scaled(rows, doses)])
            return Point(trial.margin, trial.divergence)

        start = torch.tensor([row.dose for row in rows], dtype=torch.float64)
        largest = self.searched.method.x_max
        bounds = (-largest * (start < 0).double(), largest * (start > 0).double())
        typical = start.abs().clamp(min=float(start.abs().median()))
        sign = 1.0 if self.limits.direction == "remove" else -1.0
        price = price_of(slope(start), budget=self.limits.budget, target=self.limits.target, sign=sign)
        fitted = fit_doses(start, bounds, typical, slope, develop, price, fitting)
        try:
            best, trials = self._at_the_limits(rows, fitted.doses)
        except BudgetError:
            return Refined(fitted, None, ())
        return Refined(fitted, best, trials)

    def slopes(self, scale: Scale) -> DoseSlopes:
        """Margin and divergence on the discovery split under some doses, with the slopes of every neuron."""
        inputs = self.searched.inputs
        return dose_slopes(
            self.searched.subject,
            scale,
            inputs.margin.pushed,
            inputs.about,
            inputs.costing,
            unsteered=self._unsteered,
            system=self.searched.method.system,
            progress=self.searched.progress,
        )

    def _at_the_limits(self, rows: Sequence[Row], doses: Doses) -> tuple[Trial, tuple[Trial, ...]]:
        largest = float(doses.abs().max())
        high = max(1.0, min(_AROUND[1], self.searched.method.x_max / largest)) if largest else 1.0
        path = StrengthPath(_AROUND[0], high, lambda strength: scaled(rows, strength * doses), {"fit": True})
        return PathSearch(self.searched.development, path).best(self.limits)

    @cached_property
    def _unsteered(self) -> list[Tensor]:
        return unsteered_states(self.searched.subject, self.searched.inputs.costing)


def scaled(rows: Sequence[Row], doses: Doses) -> Scale:
    """The neurons of some rows with other doses."""
    return Scale(Circuit.of(row._replace(dose=dose) for row, dose in zip(rows, doses.tolist(), strict=True)))
