"""What a checkpoint calls a weight: transformers renames some when it loads them."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def stored_name(model: Any, name: str) -> str:
    """The name of a weight on disk, by transformers' own conversion; the same name where it has none.

    Args:
        model: a transformers model.
        name: of a parameter in it.

    Example:
        >>> from neurodial.model.tiny import tiny_model
        >>> stored_name(tiny_model(), "model.norm.weight")
        'model.norm.weight'
    """
    names = list(stored_tensors(model, name, model.get_parameter(name)))
    return str(names[0]) if len(names) == 1 else name


def stored_tensors(model: Any, name: str, values: Tensor) -> dict[str, Tensor]:
    """What a checkpoint holds of a weight, by name: one tensor, or one for each expert, cut and turned as stored.

    Args:
        model: a transformers model.
        name: of a parameter in it.
        values: in the parameter's shape, the parameter itself or anything else that belongs to its numbers.

    Example:
        >>> from neurodial.model.tiny import tiny_model
        >>> model, name = tiny_model("mixtral"), "model.layers.0.mlp.experts.down_proj"
        >>> stored = stored_tensors(model, name, model.get_parameter(name))
        >>> list(stored)[0], len(stored)
        ('model.layers.0.block_sparse_moe.experts.0.w2.weight', 4)
    """
    from transformers.core_model_loading import revert_weight_conversion

    return {str(stored): value for stored, value in revert_weight_conversion(model, {name: values}).items()}
