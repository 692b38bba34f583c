"""A command in parts: how long each takes is said before it begins, how long it took at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text


@dataclass(frozen=True)
class TimedPart:
    """A part of a command.

    Attributes:
        name: what is done.
        seconds: how long it took where it was measured; what a user is told to expect.
    """

    name: str
    seconds: float


@dataclass
class TimedParts:
    """Announces parts one by one and keeps their times.

    Attributes:
        parts: all of them, in order.
        console: where they are announced.
        where: on what the expected times were measured.
    """

    parts: Sequence[TimedPart]
    console: Console
    where: str
    took: list[float] = field(default_factory=list)

    def announce(self) -> None:
        """Say how long the whole will take, and each part."""
        listed = "; ".join(f"{n} {part.name} {duration(part.seconds)}" for n, part in enumerate(self.parts, 1))
        whole = duration(sum(part.seconds for part in self.parts))
        self._say(f"{len(self.parts)} parts, about {whole} {self.where}: {listed}")

    @contextmanager
    def next(self) -> Iterator[None]:
        """Do the next part in the block."""
        part = self.parts[len(self.took)]
        self._say(f"{len(self.took) + 1} of {len(self.parts)}: {part.name} (about {duration(part.seconds)})")
        start = time.perf_counter()
        yield
        self.took.append(time.perf_counter() - start)

    def summary(self) -> str:
        """What each finished part took."""
        listed = [f"{part.name} {duration(took)}" for part, took in zip(self.parts, self.took, strict=False)]
        return f"took {duration(sum(self.took))}: {', '.join(listed)}"

    def _say(self, text: str) -> None:
        self.console.print(Text(text), style="dim")


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
