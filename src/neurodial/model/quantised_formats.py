"""What was tried on quantised bases: `quantised_formats.json`, made by `scripts/quantised_table.py`. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from neurodial.model.known_models import YES

QUANTISED_CAPABILITIES = ("discover", "steer", "dose", "lora", "weights", "gguf")
TABLE = Path(__file__).with_name("quantised_formats.json")


@dataclass(frozen=True)
class QuantisedFormat:
    """A format of quantised weights and what can be done with a model in it, tried on the processor.

    Attributes:
        name: of the format.
        package: the library that reads it and its version, None where transformers does alone.
        held: how its weights are held once loaded: `packed`, with the class of the map, or `dequantised on loading`;
            None where it could not be loaded.
        by_batch: how far a row of a batch is off from itself alone, unsteered, relative to the largest logit.
        told: for each capability `yes`, or why not; empty where it could not be loaded.
        absent: why it could not be loaded, None otherwise.
        note: what explains the row, None where nothing need be said.
    """

    name: str
    package: str | None
    held: str | None
    by_batch: float | None
    told: Mapping[str, str]
    absent: str | None
    note: str | None

    @property
    def reasons(self) -> dict[str, str]:
        """Why each capability is absent."""
        return {name: text for name, text in self.told.items() if text != YES}


@cache
def quantised_formats() -> tuple[QuantisedFormat, ...]:
    """Every format that was tried.

    Example:
        >>> next(form for form in quantised_formats() if form.name == "GPTQ 4 bit").told["steer"]
        'yes'
    """
    return tuple(
        QuantisedFormat(
            name=name,
            package=None if row["library"] is None else f"{row['library']} {row['version']}",
            held=row.get("weights are"),
            by_batch=row.get("a batch moves a row by"),
            told={capability: row[capability] for capability in QUANTISED_CAPABILITIES if capability in row},
            absent=row.get("absent"),
            note=row["note"],
        )
        for name, row in json.loads(TABLE.read_text(encoding="utf-8"))["formats"].items()
    )


def formats_named(name: str) -> tuple[QuantisedFormat, ...]:
    """The formats of a name or, where there is none, those whose name begins with it, in capitals or not.

    Example:
        >>> [form.name for form in formats_named("torchao int8")]
        ['torchao int8, weights', 'torchao int8, activations too']
        >>> formats_named("llama")
        ()
    """
    wanted = name.casefold()
    exact = tuple(form for form in quantised_formats() if form.name.casefold() == wanted)
    return exact or tuple(form for form in quantised_formats() if form.name.casefold().startswith(f"{wanted} "))


def untried_formats() -> tuple[str, ...]:
    """The formats that transformers reads too, and nobody tried here."""
    return tuple(json.loads(TABLE.read_text(encoding="utf-8"))["untried"])
