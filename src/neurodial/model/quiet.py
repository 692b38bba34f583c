"""Other libraries' progress bars while a model is loaded: off, as a library never prints, unless they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from neurodial.progress import is_verbose


@contextmanager
def quiet_bars() -> Iterator[None]:
    """Inside the block, transformers and its reader of GGUF files draw no bars; afterwards all is as it was.

    With the environment variable NEURODIAL_VERBOSE=1 nothing is turned off.

    Example:
        >>> from transformers.utils import logging
        >>> with quiet_bars():
        ...     logging.is_progress_bar_enabled()
        False
    """
    if is_verbose():
        yield
        return
    from transformers import modeling_gguf_pytorch_utils as gguf_reader
    from transformers.utils import logging

    was_enabled, gguf_bar = logging.is_progress_bar_enabled(), gguf_reader.tqdm
    logging.disable_progress_bar()
    gguf_reader.tqdm = logging.tqdm  # its own one draws whatever is set
    try:
        yield
    finally:
        gguf_reader.tqdm = gguf_bar
        if was_enabled:
            logging.enable_progress_bar()
