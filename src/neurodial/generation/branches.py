"""Final hidden states of rows that share beginnings: each beginning is run once for all rows that continue it.

1. A branch is a set of rows with a common beginning under one intervention: the questions after one subject's worked
   examples, or one question with each of its answers.
2. Branches with beginnings of similar length run together. The beginnings are cut to the shortest, so that there
   is no padding inside a row: no mask, no shifted positions, also with a sliding window. What these beginnings share
   in their turn, such as the template's system message, is run once for all of them.
3. The rows' remaining tokens continue from copies of that cache, in batches of similar length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.activations.batches import TOKEN_BUDGET, common_prefix, padded, runs_by_length
from neurodial.activations.collect import pad_id
from neurodial.generation.states import SHORTEST_SHARED, assign_rows, may_share
from neurodial.intervention.steer import Steering
from neurodial.model.cache import branched
from neurodial.model.head import hidden_states
from neurodial.model.subject import Subject
from neurodial.prompts.render import Tokens

_CUT = 16
"""The budget over this may be cut off beginnings to run more of them together; what is cut runs once for each row."""


@dataclass(frozen=True)
class Branch:
    """Rows under one intervention that begin alike.

    Attributes:
        rows: the tokens of each.
        prompts: length of each row's prompt; states are given from its last token on.
        slot: of the intervention, as `row_slots` gave it.
    """

    rows: tuple[Tokens, ...]
    prompts: tuple[int, ...]
    slot: int

    @property
    def shared(self) -> int:
        """The number of tokens at the beginning that are worth a separate pass; 0 where none are."""
        length = min(common_prefix(self.rows), min(self.prompts) - 1)
        return length if len(self.rows) > 1 and length >= SHORTEST_SHARED else 0


@dataclass(frozen=True)
class Ends:
    """The ends of some rows.

    Attributes:
        rows: branch and row of each.
        start: how many tokens of each row came before.
        hidden: outputs of the decoder for the tokens from `start` on, padded on the right.
    """

    rows: tuple[tuple[int, int], ...]
    start: int
    hidden: Float[Tensor, "row token hidden"]


def branch_states(
    subject: Subject, steering: Steering | None, branches: Sequence[Branch], *, budget: int = TOKEN_BUDGET
) -> Iterator[Ends]:
    """The decoder's outputs, after the final norm, for every row of every branch, in batches.

    Args:
        subject: the model.
        steering: what `row_slots` gave.
        branches: the rows.
        budget: tokens of one batch, beginnings and ends each.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> branch = Branch(((*range(20), 5), (*range(20), 6, 7)), (20, 20), 0)
        >>> [(ends.rows, ends.start) for ends in branch_states(tiny_subject(), None, [branch])]
        [(((0, 1), (0, 0)), 19)]
    """
    shares = may_share(subject, steering)
    lengths = [branch.shared if shares else 0 for branch in branches]
    order = sorted(range(len(branches)), key=lambda n: (-lengths[n], branches[n].rows[0][: lengths[n]]))
    for chosen in _alike(order, lengths, [len(branch.rows) for branch in branches], budget):
        start = lengths[chosen[-1]]
        cache = _begin(subject, steering, [branches[n] for n in chosen], start) if start else None
        rows = [(place, n, row) for place, n in enumerate(chosen) for row in range(len(branches[n].rows))]
        rows.sort(key=lambda item: -len(branches[item[1]].rows[item[2]]))
        tails = [len(branches[n].rows[row]) - start for _, n, row in rows]
        for run in runs_by_length(tails, budget=budget):
            batch = [rows[place] for place in run]
            tokens = padded([branches[n].rows[row][start:] for _, n, row in batch], pad_id(subject), "right")
            assign_rows(
                steering, [branches[n].slot for _, n, _ in batch], [branches[n].prompts[row] for _, n, row in batch]
            )
            hidden = _go_on(subject, cache, [place for place, _, _ in batch], tokens)
            yield Ends(tuple((n, row) for _, n, row in batch), start, hidden)


@torch.no_grad()
def _begin(subject: Subject, steering: Steering | None, branches: Sequence[Branch], length: int) -> Any:
    """The cache of the beginnings, a row for each branch; what they share in their turn runs once for each slot."""
    beginnings = [branch.rows[0][:length] for branch in branches]
    slots = [branch.slot for branch in branches]
    distinct = sorted(set(slots))
    shared = min(common_prefix(beginnings), length - 1)
    cache = None
    if shared >= SHORTEST_SHARED and len(branches) > len(distinct):
        assign_rows(steering, distinct, [shared] * len(distinct))
        first = torch.tensor([beginnings[0][:shared]] * len(distinct), device=subject.device)
        begun: Any = subject.decoder(input_ids=first, use_cache=True).past_key_values
        cache = branched(begun, [distinct.index(slot) for slot in slots])
        beginnings = [beginning[shared:] for beginning in beginnings]
    assign_rows(steering, slots, [length] * len(branches))
    tokens = torch.tensor(beginnings, device=subject.device)
    return subject.decoder(input_ids=tokens, past_key_values=cache, use_cache=True).past_key_values


@torch.no_grad()
def _go_on(subject: Subject, cache: Any, origins: Sequence[int], tokens: Tensor) -> Tensor:
    if cache is None:
        return hidden_states(subject, tokens)
    own = branched(cache, origins)
    output: Any = subject.decoder(input_ids=tokens.to(subject.device), past_key_values=own, use_cache=True)
    hidden: Tensor = output.last_hidden_state
    return hidden


def _alike(order: Sequence[int], lengths: Sequence[int], rows: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Branches, longest beginning first, in runs within the budget that lose few tokens when cut to their shortest."""
    run: list[int] = []
    for number in order:
        cut = sum(rows[other] * (lengths[other] - lengths[number]) for other in run)
        if run and ((len(run) + 1) * lengths[run[0]] > budget or cut > budget // _CUT):
            yield run
            run = []
        run.append(number)
    if run:
        yield run
