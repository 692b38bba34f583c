"""The cache that answers of a batch begin from: what the prompts share is run once.

1. The common beginning (often half of a short prompt: the template's system message) runs once for each intervention.
2. The other tokens of each prompt but its last continue from copies of it, in runs of similar length, padded on the
   right: no real token sees the padding, so there is no mask.
3. Each row is moved so that it ends at the right, as `model/cache.py` keeps rows and as generation goes on from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from neurodial.activations.batches import TOKEN_BUDGET, Batch, common_prefix, padded, runs_by_length
from neurodial.generation.states import SHORTEST_SHARED, assign_rows, may_share
from neurodial.intervention.steer import Steering
from neurodial.model.cache import branched, ended_at, joined, keeps_whole_rows, kept
from neurodial.model.subject import Subject


@torch.no_grad()
def begun(subject: Subject, steering: Steering | None, batch: Batch, slots: Sequence[int]) -> DynamicCache | None:
    """The keys and values of every prompt without its last token; None where sharing doesn't pay or can't be done.

    Only for models whose answers go on from a cache (`as_alone.py`).

    Args:
        subject: the model.
        steering: what `row_slots` gave.
        batch: the prompts, padded on the left.
        slots: the slot of each row.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> prompts = [[*range(9), 3, 4], [*range(9), 5]]
        >>> batch = Batch((0, 1), padded(prompts, 0, "left"), (11, 10))
        >>> begun(tiny_subject(), None, batch, [0, 0]).get_seq_length()
        10
    """
    width = batch.tokens.shape[1]
    prompts = [row[width - length : -1] for row, length in zip(batch.tokens.tolist(), batch.lengths, strict=True)]
    distinct = sorted(set(slots))
    shared = min(common_prefix(prompts), *(len(prompt) - 1 for prompt in prompts))
    if shared < SHORTEST_SHARED or len(prompts) <= len(distinct) or not may_share(subject, steering):
        return None
    assign_rows(steering, distinct, [shared] * len(distinct))
    beginning = torch.tensor([prompts[0][:shared]] * len(distinct), device=subject.device)
    cache: Any = subject.decoder(input_ids=beginning, use_cache=True).past_key_values
    if not keeps_whole_rows(cache):
        return None
    order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
    whole: DynamicCache | None = None
    for run in runs_by_length([len(prompts[row]) - shared for row in order], budget=TOKEN_BUDGET):
        rows = [order[place] for place in run]
        own = branched(cache, [distinct.index(slots[row]) for row in rows])
        assign_rows(steering, [slots[row] for row in rows], [len(prompts[row]) + 1 for row in rows])
        ends = padded([prompts[row][shared:] for row in rows], 0, "right").to(subject.device)
        subject.decoder(input_ids=ends, past_key_values=own, use_cache=True)
        own = ended_at(own, [len(prompts[row]) for row in rows])
        whole = own if whole is None else joined(whole, own)
    assert whole is not None  # noqa: S101  # there are prompts
    return kept(whole, sorted(range(len(order)), key=order.__getitem__), width - 1)
