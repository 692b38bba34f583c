"""Reading a GGUF file's header once.

Transformers reads a GGUF file four times to load it (twice for the configuration, for the weights, for the tokenizer),
and asks for the table of tensor names once for every module. The header holds the whole vocabulary, so this is most of
the time that a small model takes to load. Here both are cached while one model is loaded, and dropped afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import RLock
from typing import Any

_LOCK = RLock()


@contextmanager
def read_once() -> Iterator[None]:
    """Inside the block, every read of the same GGUF file uses the reader that was made first.

    Loads in other threads wait. Without the package `gguf` nothing happens: transformers reports that it is missing.

    Example:
        >>> import gguf
        >>> reader = gguf.GGUFReader
        >>> with read_once():
        ...     gguf.GGUFReader is reader
        False
        >>> gguf.GGUFReader is reader
        True
    """
    try:
        import gguf
    except ImportError:
        yield
        return
    with _LOCK:
        originals = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
        for name, function in originals.items():
            setattr(gguf, name, cache(function))
        try:
            yield
        finally:
            for name, function in originals.items():
                setattr(gguf, name, function)


_WIDTHS = {
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
}


def expert_widths(file: Path, config: Any) -> dict[str, int]:
    """Widths of experts that a GGUF file states, as its configuration calls them: transformers leaves them as they are.

    Args:
        file: the GGUF file.
        config: the configuration that transformers made of it.
    """
    import gguf

    fields = gguf.GGUFReader(str(file)).fields  # as transformers names it, so that it is read once
    architecture = str(fields["general.architecture"].contents())
    stated = {ours: fields.get(f"{architecture}.{theirs}") for theirs, ours in _WIDTHS.items()}
    return {
        name: int(field.contents()) for name, field in stated.items() if field is not None and hasattr(config, name)
    }
