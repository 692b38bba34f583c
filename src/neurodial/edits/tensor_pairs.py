"""Two tensors of one name, before and after, compared a few rows at a time: memory holds a piece, not a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from neurodial.edits.bounds import MultiplierBounds, multipliers
from neurodial.edits.stored import StoredTensor, half_spacing
from neurodial.edits.tensor_names import PartName

FIRST, PIECE = 2**14, 2**20
"""Numbers that are compared at first, and at a time after that."""
READ = 2**24
"""Bytes that are read at a time to see whether anything differs."""

Outcome = Literal["equal", "rounded", "changed", "unknown"]


class RowErrors(NamedTuple):
    """Some rows before and after in float64, with what rounding can do to them.

    Attributes:
        base: numbers before.
        candidate: numbers after.
        reach: how far a number may have moved by conversion alone.
        error: how far a number after may lie from its multiple of the one before.
        base_error: the same before, or None where the edit was made on these numbers.
    """

    base: Float64[Tensor, "row column"]
    candidate: Float64[Tensor, "row column"]
    reach: Float64[Tensor, "row column"]
    error: Float64[Tensor, "row column"]
    base_error: Float64[Tensor, "row column"] | None


class RowsPair(NamedTuple):
    """Some rows before and after.

    Attributes:
        start: the first row.
        base: numbers before.
        candidate: numbers after.
        errors: what rounding can do to them; computed when it is called, which costs more than all the rest.
    """

    start: int
    base: Float[Tensor, "row column"]
    candidate: Float[Tensor, "row column"]
    errors: Callable[[], RowErrors]


@runtime_checkable
class TensorPair(Protocol):
    """A tensor before and after."""

    @property
    def part(self) -> PartName:
        """Which part of the model it is."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    @property
    def is_exact(self) -> bool:
        """Whether any difference is a change, and not the rounding to another type."""
        ...

    @property
    def is_judged(self) -> bool:
        """Whether it is known what rounding may do."""
        ...

    def is_equal(self) -> bool:
        """Whether not a bit differs."""
        ...

    def pieces(self) -> Iterator[RowsPair]:
        """Its rows, some at a time."""
        ...

    def scales(self) -> MultiplierBounds | None:
        """The multipliers of its rows where they stand in the scales of quantised blocks; None where they do not."""
        ...


@dataclass(frozen=True)
class StoredPair:
    """A tensor in two files."""

    part: PartName
    base: StoredTensor
    candidate: StoredTensor

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.base.shape

    @property
    def is_exact(self) -> bool:
        """Whether any difference is a change: one plain type, rounded to once."""
        return self.base.kind == self.candidate.kind and self.base.is_plain

    @property
    def is_judged(self) -> bool:
        """Whether it is known what rounding may do."""
        return self.candidate.is_bounded and (self.candidate.is_plain or self.base.is_bounded)

    def is_equal(self) -> bool:
        """Whether not a bit differs; reads until one does."""
        if self.base.kind != self.candidate.kind:
            return False
        step = max(1, READ // max(self.base.row_size, 1))
        return all(
            self.base.content(start, stop) == self.candidate.content(start, stop)
            for start, stop in spans(self.shape[0], step)
        )

    def pieces(self) -> Iterator[RowsPair]:
        """Its rows, some at a time."""
        for start, stop in growing(self.shape):
            before, after = self.base.content(start, stop), self.candidate.content(start, stop)
            base, candidate = self.base.quick_numbers(before), self.candidate.quick_numbers(after)
            yield RowsPair(start, base, candidate, partial(self._errors, before, after))

    def _errors(self, before: bytes, after: bytes) -> RowErrors:
        """An edit may have been stored in the base's own type before it was converted to a coarser one."""
        base, candidate = self.base.numbers(before), self.candidate.numbers(after)
        reach = error = self.candidate.rounding(after, candidate)
        base_error = None
        if self.base.is_plain and self.candidate.kind not in {self.base.kind, "F32", "F64"}:
            error = error + half_spacing(candidate.abs() + error, self.base.kind)
        if not self.base.is_plain and not self.candidate.is_plain:
            base_error = self.base.rounding(before, base)
            reach = reach + base_error
        return RowErrors(base, candidate, reach, error, base_error)

    def scales(self) -> MultiplierBounds | None:
        """The multipliers of its rows where only the scales of quantised blocks differ; empty for other rows."""
        if self.base.kind != self.candidate.kind or self.base.is_plain:
            return None
        found = []
        for start, stop in spans(self.shape[0], max(1, PIECE // self.shape[1])):
            before, kept = self.base.scales(self.base.content(start, stop))
            after, kept_after = self.candidate.scales(self.candidate.content(start, stop))
            rows = multipliers(before, after, half_spacing(after, "F16"), None, 1)
            same = torch.from_numpy(np.all(kept == kept_after, axis=1))
            found.append(
                MultiplierBounds(torch.where(same, rows.low, torch.inf), torch.where(same, rows.high, -torch.inf))
            )
        return joined(found)


@dataclass(frozen=True, eq=False)
class LowRankPair:
    """A stored tensor and what an adapter adds to it: `up @ down`."""

    part: PartName
    base: StoredTensor
    down: Float64[Tensor, "rank column"]
    up: Float64[Tensor, "row rank"]
    kind: str
    is_exact: bool = True
    is_judged: bool = True

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.base.shape

    def is_equal(self) -> bool:
        """Whether the adapter adds nothing."""
        return not bool((self.up.abs() @ self.down.abs()).any())

    def pieces(self) -> Iterator[RowsPair]:
        """Its rows, some at a time: what is rounded is the adapter's own matrix."""
        for start, stop in growing(self.shape):
            base = self.base.numbers(self.base.content(start, stop))
            added = self.up[start:stop] @ self.down
            yield RowsPair(start, base, base + added, partial(self._errors, base, added))

    def _errors(self, base: Float64[Tensor, "row column"], added: Float64[Tensor, "row column"]) -> RowErrors:
        error = half_spacing(added, self.kind) * 2 + base.abs() * 2.0**-51
        return RowErrors(base, base + added, error, error, None)

    def scales(self) -> MultiplierBounds | None:
        """An adapter changes no blocks."""
        return None


def spans(rows: int, step: int) -> Iterator[tuple[int, int]]:
    """The rows in steps."""
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def growing(shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The rows in steps, a few at first: what rules a scaling out is mostly seen at once."""
    few = min(shape[0], max(1, FIRST // shape[1]))
    if few:
        yield 0, few
    step = max(1, PIECE // shape[1])
    yield from ((few + start, few + stop) for start, stop in spans(shape[0] - few, step))


def joined(parts: list[MultiplierBounds]) -> MultiplierBounds:
    """The bounds of lines one after the other."""
    return MultiplierBounds(torch.cat([part.low for part in parts]), torch.cat([part.high for part in parts]))
