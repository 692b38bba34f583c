"""The sizes of a stored model, from its configuration alone: what does not fit is refused before weights are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from neurodial.errors import ModelError
from neurodial.model.damage import DAMAGE, error_text
from neurodial.model.which_model import DEMO_NAMES, refuse_no_model


class StoredShape(NamedTuple):
    """Sizes of a model.

    Attributes:
        model_type: of its text part.
        width: of the residual stream.
        layers: number of blocks.
        vocabulary: rows of the embedding.
    """

    model_type: str
    width: int
    layers: int
    vocabulary: int


def shape_of(config: Any) -> StoredShape:
    """The sizes that a transformers configuration names.

    Example:
        >>> from neurodial.model.tiny import tiny_model
        >>> shape_of(tiny_model("gpt2").config)
        StoredShape(model_type='gpt2', width=16, layers=2, vocabulary=260)
    """
    text = config.get_text_config()
    return StoredShape(str(text.model_type), int(text.hidden_size), int(text.num_hidden_layers), int(text.vocab_size))


def stored_shape(source: str | Path) -> StoredShape | None:
    """The sizes of a local folder or a Hub id; None for a GGUF file and the demo models, which have no config.json.

    Raises:
        ModelError: nothing is there, or its configuration can't be read.
    """
    refuse_no_model(str(source))
    path = Path(source).expanduser()
    if str(source) in DEMO_NAMES or path.suffix == ".gguf":
        return None
    from transformers import AutoConfig

    try:
        return shape_of(AutoConfig.from_pretrained(str(path if path.is_dir() else source)))
    except DAMAGE as error:
        raise ModelError(f"The configuration of {source} can't be read: {error_text(error)}") from error
