"""How long work reports that it moves. The library never prints: whoever calls it passes a `Progress`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable


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
