"""Grouping sequences of different lengths into batches that waste little padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

TOKEN_BUDGET = 4096
"""Tokens of one batch, padding included."""

_PADDING = 0.1
"""Share of padding that is accepted for a fuller batch."""
_LEAST = 16
"""A batch of less than 1 / this of the budget is too small to be fast: it is filled up, even with much padding."""
FULL = 4
"""The same of a batch that is a pass of its own through every layer."""


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
    """Sequences sorted by length, longest first, in batches of at most `budget` tokens, with little padding.

    Longest first: a batch that doesn't fit the memory fails at once, not after minutes.

    Example:
        >>> [batch.rows for batch in batches([[1], [1, 2, 3], [1, 2, 3]], pad=0, budget=6)]
        [(1, 2), (0,)]
    """
    order = sorted(range(len(sequences)), key=lambda row: -len(sequences[row]))
    for run in runs_by_length([len(sequences[row]) for row in order], budget=budget, least=FULL):
        rows = tuple(order[place] for place in run)
        yield Batch(rows, padded([sequences[row] for row in rows], pad, side), tuple(len(sequences[r]) for r in rows))


def runs_by_length(
    lengths: Sequence[int], *, budget: int, least: int = _LEAST, rows: Sequence[int] | None = None
) -> Iterator[range]:
    """Runs of falling lengths: each within the budget when padded, and with little padding unless it is small.

    Args:
        lengths: falling.
        budget: tokens of a run, padding included.
        least: a run of less than 1 / this of the budget is filled up, even with much padding.
        rows: how many rows have each length; one by default.

    Example:
        >>> list(runs_by_length([10, 9, 2, 2, 1], budget=160))
        [range(0, 2), range(2, 5)]
    """
    rows = rows or [1] * len(lengths)
    start, count, total = 0, 0, 0
    for place, (length, more) in enumerate(zip(lengths, rows, strict=True)):
        area = (count + more) * lengths[start]
        is_wasteful = area - total - more * length > _PADDING * area and total >= min(budget, TOKEN_BUDGET) // least
        if count and (area > budget or is_wasteful):
            yield range(start, place)
            start, count, total = place, 0, 0
        count += more
        total += more * length
    if start < len(lengths):
        yield range(start, len(lengths))


def padded(sequences: Sequence[Sequence[int]], pad: int, side: str) -> Int[Tensor, "row token"]:
    """Sequences as one tensor, padded on the given side."""
    longest = max(len(sequence) for sequence in sequences)
    rows = []
    for sequence in sequences:
        filling = [pad] * (longest - len(sequence))
        rows.append([*filling, *sequence] if side == "left" else [*sequence, *filling])
    return torch.tensor(rows, dtype=torch.long)


def left_mask(lengths: Sequence[int]) -> Int[Tensor, "row token"]:
    """The attention mask of rows that are padded on the left to the longest of them.

    Example:
        >>> left_mask([1, 2]).tolist()
        [[0, 1], [1, 1]]
    """
    width = max(lengths)
    return (torch.arange(width) >= width - torch.tensor(list(lengths))[:, None]).long()


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
