"""Was a direction taken out of what the model writes? The pattern that abliteration leaves.

Taking the direction u out of a write W gives W - share * u uᵀ W: the change has rank one, its left vector is u, and its
right vector is what u read from W before. The same u in every block is what tells it from other changes of rank one.
1. u of each tensor from a sketch: the change times a few random vectors, its largest singular vector.
2. With it, how much of the change has that form, and how much is left of it beyond the candidate's rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from neurodial.edits.examine import ExaminedTensor

SKETCH = 8
"""Random vectors; the error of the direction is that of the rounding divided by their number."""
FIT = 0.9
"""Least share of the change, rounding left out, that must have the form. A removed direction has nearly all of it, a
change of another kind about one divided by the model's width."""


@dataclass(frozen=True)
class RemovedIn:
    """What was removed from one tensor.

    Attributes:
        name: of the tensor.
        share: how much of the direction was removed: 1 all of it, more turns its sign.
        fit: share of the change that is this removal.
        agreement: absolute cosine with the direction that the tensors have in common.
    """

    name: str
    share: float
    fit: float
    agreement: float


@dataclass(frozen=True)
class RemovedDirection:
    """A direction that was taken out of what the model writes.

    Attributes:
        tensors: what was removed from each.
        agreement: mean absolute cosine of the tensors' directions with the common one; 1 means one direction.
        vector: the common direction, of length 1.
    """

    tensors: tuple[RemovedIn, ...]
    agreement: float
    vector: tuple[float, ...]

    @property
    def share(self) -> float:
        """Mean share that was removed."""
        return sum(row.share for row in self.tensors) / len(self.tensors)


def removed_direction(changed: Sequence[ExaminedTensor]) -> RemovedDirection | None:
    """The direction that was taken out of these tensors, or None where that is not what happened.

    Args:
        changed: every tensor that changed; all of them must be writes to the residual stream.
    """
    if not changed or any(row.part.kind not in {"down", "write", "embedding"} for row in changed):
        return None
    vectors = torch.stack([_direction(row) for row in changed])
    common = torch.linalg.svd(vectors, full_matrices=False).Vh[0]
    rows = []
    for row, vector in zip(changed, vectors, strict=True):
        share, fit = _fit(row, vector)
        if fit < FIT:
            return None
        rows.append(RemovedIn(row.part.name, share, fit, abs(float(vector @ common))))
    agreement = sum(row.agreement for row in rows) / len(rows)
    return RemovedDirection(tuple(rows), agreement, tuple(common.tolist()))


def _writes_rows(row: ExaminedTensor) -> bool:
    """Whether the residual stream lies along the rows of the stored tensor."""
    return row.part.kind != "embedding" and not row.part.is_transposed


def _direction(row: ExaminedTensor) -> Float64[Tensor, "hidden"]:
    generator = torch.Generator().manual_seed(0)
    rows, columns = row.pair.shape
    across = _writes_rows(row)
    mixed = torch.randn(columns if across else rows, SKETCH, generator=generator, dtype=torch.float64)
    sketch = torch.zeros(rows if across else columns, SKETCH, dtype=torch.float64)
    for piece in row.pair.pieces():
        change = (piece.candidate - piece.base).double()
        stop = piece.start + change.shape[0]
        if across:
            sketch[piece.start : stop] = change @ mixed
        else:
            sketch += change.T @ mixed[piece.start : stop]
    vectors: Tensor = torch.linalg.svd(sketch, full_matrices=False).U
    return vectors[:, 0]


def _fit(row: ExaminedTensor, vector: Float64[Tensor, "hidden"]) -> tuple[float, float]:
    """The share of the direction that was removed, and the share of the change that this explains.

    Rounding, which moves a number within h by h² / 3 in the mean of the square, is no part of the change.
    """
    across = _writes_rows(row)
    others = row.pair.shape[1] if across else row.pair.shape[0]
    moved, before = torch.zeros(others, dtype=torch.float64), torch.zeros(others, dtype=torch.float64)
    noise = 0.0
    for piece in row.pair.pieces():
        errors = piece.errors()
        change = errors.candidate - errors.base
        noise += float(errors.error.square().sum()) / 3
        stop = piece.start + change.shape[0]
        if across:
            moved += vector[piece.start : stop] @ change
            before += vector[piece.start : stop] @ errors.base
        else:
            moved[piece.start : stop], before[piece.start : stop] = change @ vector, errors.base @ vector
    along = float(moved @ before)
    share = -along / max(float(before @ before), 1e-300)
    removed = along**2 / max(float(before @ before), 1e-300)
    total = max(row.change**2 - noise, removed, 1e-300)
    return share, removed / total
