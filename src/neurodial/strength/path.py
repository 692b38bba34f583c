"""What every method gives: an intervention of adjustable strength, and the range of the strength."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from neurodial.intervention.base import Intervention


@dataclass(frozen=True)
class StrengthPath:
    """An intervention of adjustable strength.

    Attributes:
        low: the least strength worth measuring; more than 0.
        high: the greatest strength. A method without a strength of its own has `low` equal to `high`.
        at: the intervention at a strength; a greater strength changes the model more.
        details: what was chosen to make it (layer, token, neurons …), as plain values; they differ between paths.
        guess: a strength to begin the search at, where it can be predicted.

    Example:
        >>> import torch
        >>> from neurodial.intervention.vector import AddVector
        >>> path = StrengthPath(0.05, 4.0, lambda strength: AddVector(torch.ones(16), 0, -strength), {"layer": 0})
        >>> path.at(0.5).alpha
        -0.5
    """

    low: float
    high: float
    at: Callable[[float], Intervention]
    details: Mapping[str, Any] = field(default_factory=dict)
    guess: float | None = None
