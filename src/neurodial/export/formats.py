"""Every format that a circuit leaves in: the one list that command, studio, card and reference are made from.

A format's record and functions stand in the module of those that load it. Nothing here imports torch: a format's
functions import what they need when they run, so that `neurodial export --help` stays quick.
"""

from __future__ import annotations

from neurodial.errors import UnknownNameError, near_names
from neurodial.export.export_format import ExportFormat
from neurodial.export.llama_cpp_formats import LLAMA_CPP_FORMATS
from neurodial.export.transformers_formats import TRANSFORMERS_FORMATS
from neurodial.export.vllm_formats import VLLM_FORMATS

FORMATS: tuple[ExportFormat, ...] = (*TRANSFORMERS_FORMATS, *VLLM_FORMATS, *LLAMA_CPP_FORMATS)
"""Every format, in the order in which it is offered."""


def format_names() -> tuple[str, ...]:
    """What the formats are asked for by."""
    return tuple(known.name for known in FORMATS)


def export_format(name: str) -> ExportFormat:
    """The format of that name.

    Raises:
        UnknownNameError: there is none.

    Example:
        >>> export_format("gguf-lora").is_dialled
        True
    """
    for known in FORMATS:
        if known.name == name:
            return known
    raise UnknownNameError(f"There is no export format {name!r}.", fix=near_names(name, format_names()))


def known_format(name: str) -> str:
    """The name itself, for a file or a request that gives one.

    Raises:
        ValueError: there is no such format.
    """
    if name not in format_names():
        raise ValueError(f"there is no export format {name!r}: one of {', '.join(format_names())}")
    return name
