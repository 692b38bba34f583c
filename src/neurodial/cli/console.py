"""Output on the terminal: results on stdout, progress and remarks on stderr, so that results can be piped."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

# emoji=False: a prompt may contain the text :smile:.
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)


@contextmanager
def bars(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr: a `Progress` for the library."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    if not err.is_terminal:
        err.print(f"{description}: {total}", style="dim")
    with Bars(*columns, console=err, transient=True, disable=not err.is_terminal) as shown:
        task = shown.add_task(description, total=total)
        yield lambda steps: shown.advance(task, steps)


@contextmanager
def status(text: str) -> Iterator[None]:
    """A spinner, or a line where stderr is no terminal."""
    if not err.is_terminal:
        err.print(Text(text), style="dim")
        yield
        return
    with err.status(Text(text)):
        yield


def print_json(value: object) -> None:
    """JSON on stdout, for programs."""
    print(json.dumps(value, ensure_ascii=False, indent=1))


def quiet_libraries() -> None:
    """Turn off the progress bars and advice of transformers; its errors are still shown."""
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("neurodial").setLevel(logging.WARNING)
