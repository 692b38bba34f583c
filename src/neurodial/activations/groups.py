"""Batches of groups: rows that belong together, such as a prompt with each of several openers, stay in one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from neurodial.activations.batches import FULL, TOKEN_BUDGET, padded, runs_by_length
from neurodial.prompts.render import Tokens


@dataclass(frozen=True)
class GroupBatch:
    """Whole groups of rows, padded on the right.

    Attributes:
        groups: which groups these are, by their place in the original list.
        owners: for each row, the place of its group in `groups`.
        tokens: token ids, padded.
        lengths: length of each row without padding.
    """

    groups: tuple[int, ...]
    owners: tuple[int, ...]
    tokens: Int[Tensor, "row token"]
    lengths: tuple[int, ...]

    def rows_of(self, place: int) -> list[int]:
        """The rows of the group at a place of `groups`, in their order."""
        return [row for row, owner in enumerate(self.owners) if owner == place]


def group_batches(groups: Sequence[Sequence[Tokens]], *, pad: int, budget: int = TOKEN_BUDGET) -> Iterator[GroupBatch]:
    """Groups sorted by their longest row, longest first, in batches of at most `budget` tokens.

    A group is never split, so one that is larger than the budget makes a batch of its own.

    Example:
        >>> packed = group_batches([[(1,), (1, 2)], [(1, 2, 3)], [(4, 5)]], pad=0, budget=6)
        >>> [(batch.groups, batch.owners) for batch in packed]
        [((1,), (0,)), ((0, 2), (0, 0, 1))]
    """
    longest = [max(len(row) for row in group) for group in groups]
    order = sorted(range(len(groups)), key=lambda number: -longest[number])
    rows = [len(groups[number]) for number in order]
    for run in runs_by_length([longest[number] for number in order], budget=budget, least=FULL, rows=rows):
        yield _batch(groups, [order[place] for place in run], pad)


def _batch(groups: Sequence[Sequence[Tokens]], chosen: list[int], pad: int) -> GroupBatch:
    rows = [row for number in chosen for row in groups[number]]
    owners = tuple(place for place, number in enumerate(chosen) for _ in groups[number])
    return GroupBatch(tuple(chosen), owners, padded(rows, pad, "right"), tuple(len(row) for row in rows))
