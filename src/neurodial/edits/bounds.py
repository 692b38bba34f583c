"""Which multipliers explain that a line of weights became another, given how far rounding may have moved each number.

A line (what one neuron reads or writes) was scaled by m when every number c of it lies within its rounding h of m times
the base's number b: m lies in [(c - h) / b, (c + h) / b] for all of them at once. The intersection of these intervals
is the answer and its error together: empty, the line was not scaled; without 1, it was; with hundreds of numbers it
is far narrower than one number's rounding. Nothing in it is chosen or fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

_OF_DOUBLES = 2.0**-50
"""What the arithmetic here, in float64, may itself be off by, as a share."""


@dataclass(frozen=True, eq=False)
class MultiplierBounds:
    """The multipliers that explain each line: between `low` and `high`, none where low is larger.

    Example:
        >>> bounds = MultiplierBounds(torch.tensor([0.5, 1.0, 2.0]), torch.tensor([0.5, 1.0, 1.0]))
        >>> bounds.scaled.tolist(), bounds.explained.tolist()
        ([True, False, False], [True, True, False])
    """

    low: Tensor
    high: Tensor

    @property
    def explained(self) -> Tensor:
        """Whether there is such a multiplier, 1 included."""
        return self.low <= self.high

    @property
    def scaled(self) -> Tensor:
        """Whether there is one, and it is not 1."""
        return self.explained & ((self.low > 1) | (self.high < 1))

    def both(self, other: MultiplierBounds) -> MultiplierBounds:
        """The multipliers that explain the lines of both."""
        return MultiplierBounds(torch.maximum(self.low, other.low), torch.minimum(self.high, other.high))

    def part(self, start: int, stop: int) -> MultiplierBounds:
        """Some of the lines."""
        return MultiplierBounds(self.low[start:stop], self.high[start:stop])


def multipliers(
    base: Float64[Tensor, "row column"],
    candidate: Float64[Tensor, "row column"],
    error: Float64[Tensor, "row column"],
    base_error: Float64[Tensor, "row column"] | None,
    axis: int,
) -> MultiplierBounds:
    """The multipliers that explain each line.

    Args:
        base: numbers before.
        candidate: numbers after.
        error: how far rounding may have moved each number after.
        base_error: the same before; None where the edit was made on exactly these numbers.
        axis: 0 where a line is a column, 1 where it is a row.
    """
    if base_error is None:
        size = base.abs()
        ratio, reach = candidate / base, error / size
        reach = reach + ratio.abs() * _OF_DOUBLES
        low, high = ratio - reach, ratio + reach
        silent = size == 0
        if bool(silent.any()):
            low = low.masked_fill(silent & (candidate.abs() > error), torch.inf)
            low = low.masked_fill(silent & (candidate.abs() <= error), -torch.inf)
            high = high.masked_fill(silent, torch.inf)
        return MultiplierBounds(low.amax(axis), high.amin(axis))
    signed = candidate * torch.where(base < 0, -1.0, 1.0)
    same, turned = (_positive(base.abs(), sign * signed, error, base_error, axis) for sign in (1, -1))
    turned = MultiplierBounds(-turned.high, -turned.low)
    neither = ~same.explained & ~turned.explained
    low = torch.where(turned.explained, turned.low, same.low)
    high = torch.where(same.explained, same.high, turned.high)
    return MultiplierBounds(torch.where(neither, torch.inf, low), torch.where(neither, -torch.inf, high))


def _positive(size: Tensor, signed: Tensor, error: Tensor, base_error: Tensor, axis: int) -> MultiplierBounds:
    """The multipliers of 0 and more, where the base's numbers too may be off."""
    error = error + (signed.abs() + error) * _OF_DOUBLES
    least = (signed - error) / (size + base_error)
    most = torch.where(size > base_error, (signed + error) / (size - base_error), torch.inf)
    return MultiplierBounds(least.amax(axis).clamp(min=0), most.amin(axis))
