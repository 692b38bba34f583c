"""What a checkpoint calls a weight: transformers renames some when it loads them."""

from __future__ import annotations

from typing import Any


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
    from transformers.core_model_loading import revert_weight_conversion

    names = list(revert_weight_conversion(model, {name: model.get_parameter(name)}))
    return str(names[0]) if len(names) == 1 else name
