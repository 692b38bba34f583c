"""The errors of other libraries for files that are missing, damaged or do not fit each other, and their texts."""

from __future__ import annotations

import struct

from safetensors import SafetensorError

DAMAGE = (
    OSError,
    ValueError,
    ImportError,
    KeyError,
    TypeError,
    RuntimeError,
    AttributeError,
    struct.error,
    SafetensorError,
)
"""Raised by transformers, gguf, safetensors and peft; none of them has a specific error for these."""


def error_text(error: Exception) -> str:
    r"""A library's error message, as one sentence on one line.

    Example:
        >>> error_text(ValueError("first line\nsecond line\nthird line"))
        'first line second line.'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2]) or type(error).__name__
    return text if text.endswith((".", "!", "?")) else f"{text}."
