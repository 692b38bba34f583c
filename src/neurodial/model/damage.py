"""What other libraries raise at files that are missing, damaged or do not fit each other, and what they say."""

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
"""Raised by transformers, gguf, safetensors and peft; none of them has an error of its own for these."""


def said(error: Exception) -> str:
    r"""What a library said, as one sentence on one line.

    Example:
        >>> said(ValueError("first line\nsecond line\nthird line"))
        'first line second line.'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2]) or type(error).__name__
    return text if text.endswith((".", "!", "?")) else f"{text}."
