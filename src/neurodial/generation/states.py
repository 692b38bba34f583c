"""The decoder's outputs for a batch, each row under its own intervention; the common beginning of all rows is run once.

Rendered prompts share their beginning, often half of a short prompt: the template's system message. It is run once for
each intervention in the batch, and the rows continue from its cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurodial.activations.batches import common_prefix
from neurodial.intervention.steer import Steering
from neurodial.model.head import hidden_states
from neurodial.model.hooks import watchers
from neurodial.model.subject import Subject

SHORTEST_SHARED = 8
"""The shortest beginning, in tokens, that is worth a separate pass."""


@dataclass(frozen=True)
class Rows:
    """The rows of a batch.

    Attributes:
        tokens: token ids, padded on the right.
        slots: the slot of each row, as `row_slots` gave it.
        prompts: length of each row's prompt.
    """

    tokens: Int[Tensor, "row token"]
    slots: Sequence[int]
    prompts: Sequence[int]


@torch.no_grad()
def row_states(subject: Subject, steering: Steering | None, rows: Rows) -> Float[Tensor, "row token hidden"]:
    """The decoder's outputs, after the final norm, without gradients.

    Args:
        subject: the model.
        steering: what `row_slots` gave.
        rows: the batch.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> tokens = torch.tensor([[*range(9), 3], [*range(9), 4]])
        >>> tuple(row_states(tiny_subject(), None, Rows(tokens, (0, 0), (10, 10))).shape)
        (2, 10, 16)
    """
    distinct = sorted(set(rows.slots))
    shared = min(common_prefix(rows.tokens.tolist()), rows.tokens.shape[1] - 1, *rows.prompts)
    pays = shared >= SHORTEST_SHARED and len(rows.tokens) > len(distinct)
    if not pays or not may_share(subject, steering):
        assign_rows(steering, rows.slots, rows.prompts)
        return hidden_states(subject, rows.tokens)
    tokens = rows.tokens.to(subject.device)
    assign_rows(steering, distinct, [shared] * len(distinct))
    begun: Any = subject.decoder(input_ids=tokens[:1, :shared].expand(len(distinct), -1), use_cache=True)
    origin = torch.tensor([distinct.index(slot) for slot in rows.slots], device=subject.device)
    begun.past_key_values.batch_select_indices(origin)
    assign_rows(steering, rows.slots, rows.prompts)
    ended: Any = subject.decoder(input_ids=tokens[:, shared:], past_key_values=begun.past_key_values, use_cache=True)
    return torch.cat([begun.last_hidden_state[origin], ended.last_hidden_state], dim=1)


def assign_rows(steering: Steering | None, slots: Sequence[int], prompts: Sequence[int]) -> None:
    """Set each row's slot and prompt length in the steering, where there is any."""
    if steering is not None:
        steering.assign(slots)
        steering.mark_prompts(prompts)


def may_share(subject: Subject, steering: Steering | None) -> bool:
    """Whether a beginning may be run once for several rows: by the model, and by the steering that acts."""
    is_whole = steering is not None and steering.needs_whole_prompts
    return subject.layout.shares_prefixes and not is_whole and not is_steered_elsewhere(subject, steering)


def is_steered_elsewhere(subject: Subject, steering: Steering | None) -> bool:
    """Whether a `with steer(...)` block of the caller acts too: the ends of prompts can't be set in it."""
    own = steering is not None and bool(steering.plan.edits)
    return watchers(subject) > own
