"""What happened to one tensor: nothing, rounding, lines scaled, or something else, in one pass over it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from neurodial.edits.bounds import MultiplierBounds, multipliers
from neurodial.edits.tensor_names import PartName
from neurodial.edits.tensor_pairs import Outcome, RowsPair, TensorPair, joined


@dataclass(frozen=True, eq=False)
class Examined:
    """What happened to one tensor.

    Attributes:
        part: which part of the model it is.
        pair: the tensor before and after.
        outcome: equal; rounded: differs by no more than the candidate's type rounds; changed; unknown: the types'
            rounding has no bound.
        bounds: for a changed tensor of an MLP, the multipliers that explain each line.
        change: Frobenius norm of the difference.
        size: of the base; 0 where nothing was measured.
        noise: the most that rounding can account for.
    """

    part: PartName
    pair: TensorPair
    outcome: Outcome
    bounds: MultiplierBounds | None = None
    change: float = 0.0
    size: float = 0.0
    noise: float = 0.0

    @property
    def is_changed(self) -> bool:
        """Whether it was changed by more than rounding."""
        return self.outcome == "changed"

    @property
    def is_explained(self) -> bool:
        """Whether every line of it is the base's times a number."""
        return self.bounds is not None and bool(self.bounds.explained.all())


@dataclass
class _Sums:
    """What is added up over the pieces of a tensor."""

    change: float = 0.0
    size: float = 0.0
    noise: float = 0.0
    beyond: bool = False
    columns: MultiplierBounds | None = None
    rows: list[MultiplierBounds] = field(default_factory=list)
    is_over: bool = False

    def add(self, piece: RowsPair, axis: int | None) -> None:
        """Take in a piece; `axis` is that of the neurons, None where lines are not asked for."""
        change = piece.candidate - piece.base
        self.change += float(change.square().sum())
        self.size += float(piece.base.square().sum())
        self.noise += float(piece.error.square().sum())
        self.beyond = self.beyond or bool((change.abs() > piece.reach).any())
        if axis is None or self.is_over:
            return
        bounds = multipliers(piece.base, piece.candidate, piece.error, piece.base_error, 1 - axis)
        if axis == 0:
            self.rows.append(bounds)
            return
        self.columns = bounds if self.columns is None else self.columns.both(bounds)
        self.is_over = not bool(self.columns.explained.any())


def examine(pair: TensorPair) -> Examined:
    """Compare one tensor before and after.

    Args:
        pair: the tensor.

    Returns:
        What happened to it; bounds only where it changed and belongs to an MLP.
    """
    part = pair.part
    if pair.is_equal():
        return Examined(part, pair, "equal")
    scaled = pair.scales() if part.is_mlp and part.neuron_axis == 0 else None
    if scaled is not None and bool(scaled.explained.all()):
        return Examined(part, pair, "changed", scaled)
    if not pair.is_judged:
        return Examined(part, pair, "unknown")
    sums = _Sums()
    for piece in pair.pieces():
        sums.add(piece, part.neuron_axis if part.is_mlp else None)
    sizes = (sums.change**0.5, sums.size**0.5, sums.noise**0.5)
    is_same = sums.change == 0 if pair.is_exact else not sums.beyond
    if is_same:
        return Examined(part, pair, "rounded" if sums.change or not pair.is_exact else "equal", None, *sizes)
    bounds = sums.columns if sums.columns is not None else joined(sums.rows) if sums.rows else None
    if bounds is not None and scaled is not None:
        bounds = _either(scaled, bounds)
    return Examined(part, pair, "changed", bounds, *sizes)


def _either(first: MultiplierBounds, second: MultiplierBounds) -> MultiplierBounds:
    """The first's multipliers where it has any, which are the narrower ones, else the second's."""
    takes = first.explained
    return MultiplierBounds(torch.where(takes, first.low, second.low), torch.where(takes, first.high, second.high))
