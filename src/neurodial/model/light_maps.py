"""A model whose blocks' linear maps cost nothing: for what depends on how a model is put together, not on weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from neurodial.model.replay import linear_maps, list_members


@contextmanager
def light_maps(model: nn.Module) -> Iterator[None]:
    """While inside, each plain linear map of a block repeats the features of its input until it has enough.

    Tokens stay apart and distinct, as with any other weights, and shapes are the same. A pass then reads next to no
    weights, which is most of its time on few tokens. Maps of other classes, and what is outside blocks, stay; so do all
    maps of a quantised model, whose library may rebuild them in the first pass.
    """
    is_quantised = getattr(model, "hf_quantizer", None) is not None
    blocks = [] if is_quantised else [member for _, member in list_members(model)]
    maps = {id(each): each for block in blocks for each in linear_maps(block).values() if _width(each)}
    own = {key: vars(module).get("forward") for key, module in maps.items()}
    try:
        for module in maps.values():
            module.forward = _repeating(_width(module))
        yield
    finally:
        for key, forward in own.items():
            if forward is None:
                vars(maps[key]).pop("forward", None)
            else:
                maps[key].forward = forward


def _width(module: nn.Module) -> int:
    """Number of features that a plain linear map gives, 0 for other modules."""
    from transformers.pytorch_utils import Conv1D

    if type(module) is nn.Linear:
        return module.out_features
    return int(cast(Tensor, module.weight).shape[1]) if type(module) is Conv1D else 0


def _repeating(width: int) -> Callable[..., Any]:
    def forward(given: Tensor) -> Tensor:
        places = torch.arange(width, device=given.device) % given.shape[-1]
        return given[..., places]

    return forward
