"""How long work reports that it moves. The library never prints: whoever calls it passes a `Progress`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

VERBOSE = "NEURODIAL_VERBOSE"
"""The environment variable that lets other libraries speak."""


@runtime_checkable
class Progress(Protocol):
    """Something that shows how far a piece of work has come.

    Called with a description and the number of steps; gives a `with` block whose value is called with the
    number of steps just finished.
    """

    def __call__(self, description: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Begin a piece of work of `total` steps."""
        ...


@contextmanager
def silent(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A `Progress` that shows nothing.

    Example:
        >>> with silent("reading", total=3) as advance:
        ...     advance(3)
    """
    del description, total
    yield _ignore


def _ignore(steps: int) -> None:
    del steps


def is_verbose() -> bool:
    """Whether the bars, warnings and advice of other libraries are wanted: NEURODIAL_VERBOSE=1, or `--verbose`.

    Example:
        >>> import os
        >>> os.environ["NEURODIAL_VERBOSE"] = "1"
        >>> is_verbose()
        True
        >>> del os.environ["NEURODIAL_VERBOSE"]
    """
    return os.environ.get(VERBOSE, "0") not in {"", "0"}


@dataclass(frozen=True)
class Stopwatch:
    """How long the parts of a piece of work took.

    Attributes:
        seconds: of each part, by its name, in the order in which they began.

    Example:
        >>> watch = Stopwatch()
        >>> with watch.part("reading"):
        ...     pass
        >>> list(watch.seconds)
        ['reading']
    """

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the block to a part."""
        begun = time.monotonic()
        self.seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            self.seconds[name] += time.monotonic() - begun
