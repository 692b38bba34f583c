"""What was tried on every causal model type of transformers: `known_models.json`, made by the tests. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from neurodial.errors import UnknownNameError, near_names

CAPABILITIES = ("discover", "steer", "dose", "trace", "lora", "ia3", "weights", "gguf")
"""What is tried on each type; `dose` stands for everything that needs gradients at the neurons."""
YES = "yes"
TABLE = Path(__file__).with_name("known_models.json")


@dataclass(frozen=True)
class KnownModel:
    """A model type and what can be done with it.

    Attributes:
        name: `model_type` of its configuration.
        kind: `text`, or `image and text`, of which the text part is used.
        neurons: the maps whose inputs are neurons, and what is not covered; empty where nothing was found.
        told: for each capability `yes`, or why not; empty where nothing could be tried.
        absent: why nothing could be tried, None otherwise.
    """

    name: str
    kind: Literal["text", "image and text"]
    neurons: str
    told: Mapping[str, str]
    absent: str | None

    @property
    def works(self) -> bool:
        """Whether neurons can be found and steered."""
        return self.told.get("discover") == YES and self.told.get("steer") == YES

    @property
    def reasons(self) -> dict[str, str]:
        """Why each capability is absent."""
        return {name: text for name, text in self.told.items() if text != YES}


@cache
def known_models() -> tuple[KnownModel, ...]:
    """Every type that was tried, text first.

    Example:
        >>> next(model for model in known_models() if model.name == "llama").neurons
        'mlp.down_proj'
    """
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    kinds: tuple[Literal["text", "image and text"], ...] = ("text", "image and text")
    return tuple(_model(name, kind, row) for kind in kinds for name, row in table[kind].items())


def tried_with() -> str:
    """The version of transformers whose types were tried."""
    return str(json.loads(TABLE.read_text(encoding="utf-8"))["transformers"])


def known_model(name: str) -> KnownModel:
    """The row of a model type.

    Raises:
        UnknownNameError: no such type was tried.
    """
    found = {model.name: model for model in reversed(known_models())}
    if name not in found:
        raise UnknownNameError(
            f"The model type {name!r} was not tried.",
            fix=f"{near_names(name, found)} Other types work where a layout is found: load the model and see.",
        )
    return found[name]


def _model(name: str, kind: Literal["text", "image and text"], row: Mapping[str, str]) -> KnownModel:
    absent = row.get("refused") or row.get("not built")
    told = {capability: row[capability] for capability in CAPABILITIES if capability in row}
    if "not built" in row:
        absent = f"No small model of it could be built to try: {absent}"
    return KnownModel(name, kind, row.get("neurons", ""), told, absent)
