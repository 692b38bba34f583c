"""Whether a model answers in a batch as it answers each prompt alone: measured, once for each model.

Rows of a batch are padded on the left, with a mask. Most models make nothing of padding; some count it as places, take
it into a state, or choose by batch what they attend to. And answers may go on from a cache of ours (`begun.py`) only
where a model reads a prompt token by token.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import DynamicCache

from neurodial.activations.batches import left_mask, padded
from neurodial.model.cache import joined, keeps_whole_rows
from neurodial.model.find_layout import ordinary_tokens
from neurodial.model.generation_settings import plain_generation
from neurodial.model.hooks import contiguous_head, watchers
from neurodial.model.subject import Subject


class AsAlone(NamedTuple):
    """How a model may be given several prompts.

    Attributes:
        padded: prompts of different lengths may share a batch.
        cached: answers may go on from keys and values that were computed before.
    """

    padded: bool
    cached: bool


def as_alone(subject: Subject) -> AsAlone:
    """How a model may be given several prompts without another answer than each gets alone.

    The first call for a model lets it answer two short prompts by two tokens. Inside a `with steer(...)` block nothing
    is measured: what is not known yet is taken to be as most models are, without a cache.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> as_alone(tiny_subject())
        AsAlone(padded=True, cached=True)
    """
    found = _FOUND.get(subject.model)
    if found is None:
        if watchers(subject):
            return AsAlone(padded=True, cached=False)
        found = _FOUND[subject.model] = _measured(subject)
    return found


_FOUND: WeakKeyDictionary[nn.Module, AsAlone] = WeakKeyDictionary()

UNABLE = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What models raise that can't do what is tried."""


@torch.no_grad()
def _measured(subject: Subject) -> AsAlone:
    prompts = short_prompts(subject)
    alone = [logits for prompt in prompts for logits in _logits(subject, [prompt])]
    try:
        if not agree(subject, alone, _logits(subject, prompts)):
            return AsAlone(padded=False, cached=False)
    except UNABLE:
        return AsAlone(padded=False, cached=False)
    try:
        again = [*prompts, prompts[0]]  # another number of rows: some models keep places of the last batch
        cache = _cached(subject, again)
        cached = cache is not None and agree(subject, [*alone, alone[0]], _logits(subject, again, cache))
    except UNABLE:
        cached = False
    return AsAlone(padded=True, cached=cached)


def short_prompts(subject: Subject) -> list[list[int]]:
    """Two prompts of different length, of tokens that stand for nothing special."""
    first, second = ordinary_tokens(subject.model)[:2].tolist()
    return [first, second[: len(second) // 2]]


def agree(subject: Subject, alone: Sequence[Tensor], together: Sequence[Tensor]) -> bool:
    """Whether logits agree to half of the dtype's digits: a batch takes sums in another order."""
    bound = 0.5 * torch.finfo(subject.dtype).eps ** 0.5 * max(float(logits.abs().max()) for logits in alone)
    return all(float((a - b).abs().max()) <= bound for a, b in zip(alone, together, strict=True))


def _cached(subject: Subject, prompts: Sequence[Sequence[int]]) -> DynamicCache | None:
    """The keys and values of prompts but their last tokens; None where rows can't be moved in such a cache."""
    settings = subject.model.generation_config
    if settings.use_cache is False or settings.cache_implementation or not subject.layout.shares_prefixes:
        return None
    rows = [torch.tensor([prompt[:-1]], device=subject.device) for prompt in prompts]
    caches: list[Any] = [subject.decoder(input_ids=row, use_cache=True).past_key_values for row in rows]
    return reduce(joined, caches) if all(map(keeps_whole_rows, caches)) else None


def _logits(
    subject: Subject, prompts: Sequence[Sequence[int]], cache: DynamicCache | None = None
) -> list[Float[Tensor, "token vocab"]]:
    """For each prompt the logits of its first two generated tokens."""
    tokens = padded(prompts, 0, "left").to(subject.device)
    with plain_generation(subject.model), contiguous_head(subject):
        made: Any = subject.model.generate(
            tokens,
            attention_mask=left_mask([len(prompt) for prompt in prompts]).to(subject.device),
            past_key_values=cache,
            max_new_tokens=2,
            min_new_tokens=2,
            do_sample=False,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return list(torch.stack(made.logits, dim=1))
