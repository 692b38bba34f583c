"""A model's first blocks as a configuration of their own, for reading or training a part of it."""

from __future__ import annotations

import copy
from typing import Any

from neurodial.errors import ModelError


def shortened_config(config: Any, layers: int) -> Any:
    """A copy of a configuration with fewer blocks; lists with an entry for each block are cut with it.

    Args:
        config: of transformers.
        layers: how many blocks are kept, from the first.

    Raises:
        ModelError: there are not that many.

    Example:
        >>> from neurodial.model.tiny import tiny_model
        >>> shortened_config(tiny_model("gemma3_text").config, 1).layer_types
        ['sliding_attention']
    """
    made = copy.deepcopy(config)
    text = made.get_text_config()
    whole = int(text.num_hidden_layers)
    if not 1 <= layers <= whole:
        raise ModelError(f"{layers} of {whole} blocks were asked for.", wanted=f"1 to {whole}")
    for name, value in list(vars(text).items()):
        if isinstance(value, list | tuple) and len(value) == whole and whole > 1:
            setattr(text, name, value[:layers])
    text.num_hidden_layers = layers
    return made


def first_blocks(model: Any, layers: int) -> Any:
    """A model of the first blocks of another, with copies of its weights, in evaluation mode.

    Args:
        model: a live transformers model.
        layers: how many blocks.

    Raises:
        ModelError: there are not that many, or the shorter model has weights that the whole one lacks.

    Example:
        >>> from neurodial.model.tiny import tiny_model
        >>> first_blocks(tiny_model(), 1).config.num_hidden_layers
        1
    """
    config = shortened_config(model.config, layers)
    made = type(model)._from_config(config, dtype=model.dtype).to(model.device).eval()
    own = model.state_dict()
    missing = [name for name in made.state_dict() if name not in own]
    if missing:
        raise ModelError(
            f"The first {layers} blocks have weights of their own, such as {missing[0]}.",
            wanted="a model whose first blocks are built like those of the whole",
        )
    made.load_state_dict({name: own[name] for name in made.state_dict()})
    return made
