"""Which weights are numbers as they stand, and which are packed by a quantising library."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

_HALF = 2
"""Bytes of the smallest number that a model computes with; numbers of one byte go with scales."""
_PACKED = {torch.int8, torch.uint8, torch.int16, torch.int32}
"""Types of buffers that hold packed weights; indices are of 64 bits."""


def is_plain(weight: Any) -> TypeGuard[Tensor]:
    """Whether a weight holds the numbers that its map computes with.

    Not those of packed integers, nor of one byte each, nor in a tensor class of a quantising library (which may call
    itself floating), nor on the meta device.

    Example:
        >>> is_plain(torch.ones(2, 2)), is_plain(torch.ones(2, 2).to(torch.float8_e4m3fn)), is_plain(None)
        (True, False, False)
    """
    if type(weight) not in {Tensor, nn.Parameter} or weight.is_meta:
        return False
    return bool(weight.is_floating_point()) and int(weight.element_size()) >= _HALF


def stored_weight(module: nn.Module, name: str) -> Tensor | None:
    """A module's own weight; one that accelerate has offloaded is read from where it is. None where it is nowhere."""
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor) or not weight.is_meta:
        return weight if isinstance(weight, Tensor) else None
    stored = getattr(getattr(module, "_hf_hook", None), "weights_map", None)
    return None if stored is None else stored[name]


def packed_buffers(module: nn.Module) -> dict[str, Tensor]:
    """The stored buffers of a map that keeps its weight in them, as integers with scales; empty for other modules."""
    unsaved: set[str] = module._non_persistent_buffers_set  # torch has no public name for it
    buffers = {name: value for name, value in module.named_buffers(recurse=False) if name not in unsaved}
    packed = any(value.dtype in _PACKED and value.dim() > 1 for value in buffers.values())
    return buffers if packed else {}


def is_quantised(module: nn.Module) -> bool:
    """Whether a module itself, not those in it, holds weights that are packed; what is on the meta device is not."""
    if is_plain(getattr(module, "weight", None)):
        return False
    parameters = module.parameters(recurse=False)
    return any(not (is_plain(each) or each.is_meta) for each in parameters) or bool(packed_buffers(module))


def plain_parts(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The tensor; of one in a quantising library's class, the plain tensors in it, by torch's protocol for those."""
    if not hasattr(tensor, "__tensor_flatten__"):
        yield name, tensor
        return
    for part in tensor.__tensor_flatten__()[0]:
        yield from plain_parts(f"{name}.{part}", getattr(tensor, part))
