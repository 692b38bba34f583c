"""Backward passes through offloaded weights that keep none of them: a weight is read again when its gradient comes by.

autograd keeps what a backward pass needs, frozen weights too: after a forward pass through an offloaded model, every
block's weights would be in memory. Inside `weights_read_again` it keeps their names instead, and what accelerate reads
them from; one weight at a time is in memory on the way back. Activations are kept as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from neurodial.model.block_by_block import offloading


@contextmanager
def weights_read_again(model: nn.Module) -> Iterator[None]:
    """Inside, graphs through a model's offloaded modules hold the names of weights; does nothing where none is.

    Weights are told by where their numbers lie while they are in memory; what autograd keeps is mostly a view of one.
    """
    modules = list(offloading(model))
    if not modules:
        yield
        return
    present: dict[int, _Weight] = {}
    with ExitStack() as stack:
        for module, hook in modules:
            stack.enter_context(_listed(module, hook, present))
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(lambda tensor: _pack(tensor, present), _unpack))
        yield


@dataclass(frozen=True)
class _Weight:
    """A weight by its name, and what reads it."""

    hook: Any
    name: str

    def read(self) -> Tensor:
        whole: Tensor = self.hook.weights_map[self.name]
        return whole.to(self.hook.execution_device)


@dataclass(frozen=True)
class _View:
    """A view of a weight, without its numbers."""

    weight: _Weight
    dtype: torch.dtype
    shape: torch.Size
    strides: tuple[int, ...]
    offset: int


@contextmanager
def _listed(module: nn.Module, hook: Any, present: dict[int, _Weight]) -> Iterator[None]:
    """Keep the list of weights that are in memory, as accelerate's hook brings them in and drops them."""
    bring, drop = hook.pre_forward, hook.post_forward

    def brought(*args: Any, **kwargs: Any) -> Any:
        given = bring(*args, **kwargs)
        for name, parameter in module.named_parameters(recurse=hook.place_submodules):
            present[_place(parameter)] = _Weight(hook, name)
        return given

    def dropped(*args: Any, **kwargs: Any) -> Any:
        for parameter in module.parameters(recurse=hook.place_submodules):
            present.pop(_place(parameter), None)
        return drop(*args, **kwargs)

    with patch.object(hook, "pre_forward", brought), patch.object(hook, "post_forward", dropped):
        yield


def _pack(tensor: Tensor, present: dict[int, _Weight]) -> Tensor | _View:
    weight = None if tensor.is_meta else present.get(_place(tensor))
    if weight is None:
        return tensor
    return _View(weight, tensor.dtype, tensor.shape, tensor.stride(), int(tensor.storage_offset()))


def _unpack(kept: Tensor | _View) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    whole = kept.weight.read().to(kept.dtype)
    return whole.as_strided(kept.shape, kept.strides, kept.offset)


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
