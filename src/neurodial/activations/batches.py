"""Grouping sequences of different lengths into batches that waste little padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

TOKEN_BUDGET = 4096
"""Tokens of one batch, padding included."""


@dataclass(frozen=True)
class Batch:
    """Rows of similar length, padded.

    Attributes:
        rows: which sequences these are, by their place in the original list.
        tokens: token ids, padded.
        lengths: length of each row without padding.
    """

    rows: tuple[int, ...]
    tokens: Int[Tensor, "row token"]
    lengths: tuple[int, ...]


def batches(
    sequences: Sequence[Sequence[int]], *, pad: int, side: str = "right", budget: int = TOKEN_BUDGET
) -> Iterator[Batch]:
    """Sequences sorted by length, longest first, and cut so that a batch holds at most `budget` tokens.

    Longest first: a batch that doesn't fit the memory fails at once, not after minutes.

    Example:
        >>> [batch.rows for batch in batches([[1], [1, 2, 3], [1, 2]], pad=0, budget=6)]
        [(1, 2), (0,)]
    """
    order = sorted(range(len(sequences)), key=lambda row: -len(sequences[row]))
    start = 0
    while start < len(order):
        longest = len(sequences[order[start]])
        size = max(1, budget // max(1, longest))
        rows = tuple(order[start : start + size])
        yield Batch(rows, padded([sequences[row] for row in rows], pad, side), tuple(len(sequences[r]) for r in rows))
        start += size


def padded(sequences: Sequence[Sequence[int]], pad: int, side: str) -> Int[Tensor, "row token"]:
    """Sequences as one tensor, padded on the given side."""
    longest = max(len(sequence) for sequence in sequences)
    rows = []
    for sequence in sequences:
        filling = [pad] * (longest - len(sequence))
        rows.append([*filling, *sequence] if side == "left" else [*sequence, *filling])
    return torch.tensor(rows, dtype=torch.long)


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """Length of the prefix that all sequences share.

    Example:
        >>> common_prefix([[1, 2, 3], [1, 2, 4]])
        2
    """
    first, last = min(map(tuple, sequences)), max(map(tuple, sequences))
    length = 0
    while length < min(len(first), len(last)) and first[length] == last[length]:
        length += 1
    return length
