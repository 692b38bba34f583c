"""Output on the terminal: results on stdout, progress and remarks on stderr, so that results can be piped."""

from __future__ import annotations

import json
import logging
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from neurodial.progress import is_verbose

# emoji=False: a prompt may contain the text :smile:.
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

EVERY = 10.0
"""Seconds between lines of progress where stderr is no terminal."""


@contextmanager
def bars(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, lines with the time left where that is no terminal: a `Progress` for the library."""
    if not err.is_terminal:
        with _lines(description, total) as advance:
            yield advance
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=err, transient=True) as shown:
        task = shown.add_task(description, total=total)
        yield lambda steps: shown.advance(task, steps)


@contextmanager
def _lines(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A line at the beginning, one every few seconds with the time left, and one at the end of long work."""
    begun = said = time.monotonic()
    finished = 0
    if total:  # what has no steps is not worth a line
        err.print(f"{description}: {total}", style="dim", markup=False)

    def advance(steps: int) -> None:
        nonlocal said, finished
        finished += steps
        now = time.monotonic()
        if finished < total and finished and now - said >= EVERY:
            left = (now - begun) / finished * (total - finished)
            err.print(f"{description}: {finished} of {total}, about {duration(left)} left", style="dim", markup=False)
            said = now

    yield advance
    took = time.monotonic() - begun
    if took >= EVERY:
        err.print(f"{description}: {finished} of {total}, took {duration(took)}", style="dim", markup=False)


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    Example:
        >>> duration(8.2), duration(75), duration(200)
        ('8 s', '1 min 15 s', '3 min 20 s')
    """
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")


@contextmanager
def status(text: str) -> Iterator[None]:
    """A spinner, or a line where stderr is no terminal."""
    if not err.is_terminal:
        err.print(Text(text), style="dim")
        yield
        return
    with err.status(Text(text)):
        yield


def written(*paths: Path | str, then: Sequence[Sequence[object]] = ()) -> None:
    """Say on stderr what was written, and which commands go on from there.

    Args:
        paths: of the files or folders.
        then: the arguments of each command after `neurodial`; what a user has to fill in stands in capitals.
    """
    err.print(Text(f"\nwritten: {', '.join(map(str, paths))}"), soft_wrap=True)
    for arguments in then:
        err.print(Text(f"next: {shlex.join(['neurodial', *map(str, arguments)])}"), soft_wrap=True)


def print_json(value: object) -> None:
    """JSON on stdout, for programs."""
    print(json.dumps(value, ensure_ascii=False, indent=1))


def quiet_libraries() -> None:
    """Turn off the bars, warnings and advice of other libraries, unless `--verbose`; their errors are still shown."""
    logging.getLogger("neurodial").setLevel(logging.INFO)
    if is_verbose():
        return
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
