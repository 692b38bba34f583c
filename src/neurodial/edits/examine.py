"""What happened to one tensor: nothing, rounding, lines scaled, or something else, in one pass over it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from neurodial.edits.bounds import MultiplierBounds, multipliers
from neurodial.edits.tensor_names import PartName
from neurodial.edits.tensor_pairs import Outcome, RowErrors, RowsPair, TensorPair, joined


@dataclass(frozen=True, eq=False)
class ExaminedTensor:
    """What happened to one tensor.

    Attributes:
        part: which part of the model it is.
        pair: the tensor before and after.
        outcome: equal; rounded: differs by no more than the candidate's type rounds; changed; unknown: the types'
            rounding has no bound.
        bounds: the multipliers that explain each line of a changed tensor of an MLP; None where one line has none.
        change: Frobenius norm of the difference.
        size: of the base; 0 where nothing was measured.
    """

    part: PartName
    pair: TensorPair
    outcome: Outcome
    bounds: MultiplierBounds | None = None
    change: float = 0.0
    size: float = 0.0

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
    """What is added up over the pieces of a tensor.

    Attributes:
        axis: that of the neurons; None where lines are not asked for, or where one line has ruled a scaling out.
        is_exact: whether any difference is a change.
        is_beyond: whether a number moved by more than rounding.
    """

    axis: int | None
    is_exact: bool
    is_beyond: bool = False
    change: float = 0.0
    size: float = 0.0
    columns: MultiplierBounds | None = None
    rows: list[MultiplierBounds] = field(default_factory=list)

    def add(self, piece: RowsPair) -> None:
        """Take in a piece."""
        change = piece.candidate - piece.base
        moved = float(torch.linalg.vector_norm(change)) ** 2
        self.change += moved
        self.size += float(torch.linalg.vector_norm(piece.base)) ** 2
        self.is_beyond = self.is_beyond or (self.is_exact and moved > 0)
        if self.axis is None and self.is_beyond:
            return
        errors = piece.errors()
        self.is_beyond = self.is_beyond or bool(((errors.candidate - errors.base).abs() > errors.reach).any())
        if self.axis is not None:
            self._narrow(errors, self.axis)

    def _narrow(self, errors: RowErrors, axis: int) -> None:
        bounds = multipliers(errors.base, errors.candidate, errors.error, errors.base_error, 1 - axis)
        if axis == 0:
            self.rows.append(bounds)
        else:
            bounds = self.columns = bounds if self.columns is None else self.columns.both(bounds)
        if not bool(bounds.explained.all()):
            self.axis, self.columns, self.rows = None, None, []


def examine(pair: TensorPair) -> ExaminedTensor:
    """Compare one tensor before and after.

    Args:
        pair: the tensor.

    Returns:
        What happened to it.
    """
    part = pair.part
    if pair.is_equal():
        return ExaminedTensor(part, pair, "equal")
    scaled = pair.scales() if part.is_mlp and part.neuron_axis == 0 else None
    if scaled is not None and bool(scaled.explained.all()):
        return ExaminedTensor(part, pair, "changed", scaled)
    if not pair.is_judged:
        return ExaminedTensor(part, pair, "unknown")
    sums = _Sums(part.neuron_axis if part.is_mlp else None, pair.is_exact)
    for piece in pair.pieces():
        sums.add(piece)
    sizes = (sums.change**0.5, sums.size**0.5)
    if not sums.is_beyond:
        return ExaminedTensor(part, pair, "equal" if pair.is_exact else "rounded", None, *sizes)
    bounds = sums.columns if sums.columns is not None else joined(sums.rows) if sums.rows else None
    return ExaminedTensor(part, pair, "changed", bounds, *sizes)
