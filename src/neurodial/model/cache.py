"""Key-value caches whose rows can be added and removed, for batches whose requests begin and end at different times.

Rows are aligned at their right ends; shorter ones are padded on the left. Every layer keeps the whole row, even
where attention has a sliding window: the mask, not the cache, limits the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


def empty_cache() -> DynamicCache:
    """A cache that holds nothing yet.

    Example:
        >>> empty_cache().get_seq_length()
        0
    """
    return DynamicCache()


def joined(first: DynamicCache, second: DynamicCache) -> DynamicCache:
    """The rows of both, those of the first one first, padded on the left to the longer of the two.

    The layers of the first are reused; use neither cache afterwards.
    """
    width = max(first.get_seq_length(), second.get_seq_length())
    for layer, other in zip(_layers(first), _layers(second), strict=True):
        layer.keys = torch.cat([_widened(layer.keys, width), _widened(other.keys, width)])
        layer.values = torch.cat([_widened(layer.values, width), _widened(other.values, width)])
    return first


def kept(cache: DynamicCache, rows: Sequence[int], width: int) -> DynamicCache:
    """Only the given rows, and of those the last `width` places; the cache is changed in place and returned."""
    for layer in _layers(cache):
        index = torch.tensor(list(rows), device=layer.keys.device)
        cut = layer.keys.shape[-2] - width
        layer.keys = layer.keys[:, :, cut:].index_select(0, index)
        layer.values = layer.values[:, :, cut:].index_select(0, index)
    return cache


def ended_at(cache: DynamicCache, lengths: Sequence[int]) -> DynamicCache:
    """Rows that are padded on the right, moved so that each ends at the right; changed in place and returned.

    Example:
        >>> cache = empty_cache()
        >>> _ = cache.update(torch.tensor([[[[1.0], [0.0]]]]), torch.zeros(1, 1, 2, 1), 0)
        >>> ended_at(cache, [1]).layers[0].keys.flatten().tolist()
        [0.0, 1.0]
    """
    for layer in _layers(cache):
        width = layer.keys.shape[-2]
        ends = torch.tensor(list(lengths), device=layer.keys.device)[:, None]
        places = (torch.arange(width, device=layer.keys.device) + ends) % width
        rows = torch.arange(len(lengths), device=layer.keys.device)[:, None]
        layer.keys, layer.values = (
            states.transpose(1, 2)[rows, places].transpose(1, 2) for states in (layer.keys, layer.values)
        )
    return cache


def keeps_whole_rows(cache: Any) -> bool:
    """Whether every layer keeps every token of a row, so that rows can be moved and joined."""
    return all(type(layer) is DynamicLayer for layer in cache.layers)


def branched(cache: Any, rows: Sequence[int]) -> Any:
    """A cache of the given rows, each as often as it is named; the original is unchanged and can still be used.

    Layers make new tensors when they grow, so sharing the rest is safe.
    """
    branch = copy(cache)
    branch.layers = [copy(layer) for layer in cache.layers]
    branch.batch_select_indices(torch.tensor(list(rows), device=cache.layers[0].keys.device))
    return branch


def row_counts(cache: DynamicCache) -> set[int]:
    """The numbers of rows that the layers hold: one number, unless a change was interrupted."""
    return {int(layer.keys.shape[0]) for layer in _layers(cache)}


def _layers(cache: DynamicCache) -> list[Any]:
    layers: list[Any] = cache.layers
    assert keeps_whole_rows(cache)  # noqa: S101  # without a configuration transformers makes no other kind
    return layers


def _widened(states: Tensor, width: int) -> Tensor:
    """States (row, head, token, feature) with zeros before the first token."""
    return torch.nn.functional.pad(states, (0, 0, width - states.shape[-2], 0))
