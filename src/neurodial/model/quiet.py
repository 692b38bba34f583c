"""Other libraries' progress bars while a model is loaded: off, as a library never prints, unless they are asked for."""

from __future__ import annotations

import logging
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
    from transformers.utils import logging as theirs

    was_enabled, gguf_bar = theirs.is_progress_bar_enabled(), gguf_reader.tqdm
    theirs.disable_progress_bar()
    gguf_reader.tqdm = theirs.tqdm  # its own one draws whatever is set
    try:
        yield
    finally:
        gguf_reader.tqdm = gguf_bar
        if was_enabled:
            theirs.enable_progress_bar()


@contextmanager
def quiet_offloading() -> Iterator[None]:
    """Inside the block, accelerate does not warn that weights are on the disk, where they are on purpose."""
    logger = logging.getLogger("accelerate.big_modeling")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
