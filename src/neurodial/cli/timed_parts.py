"""A command in steps: its times are announced before each step, and reported at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from neurodial.cli.console import duration


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
        """Announce how long the whole and each step will take."""
        listed = "; ".join(f"{n} {step.name} {duration(step.seconds)}" for n, step in enumerate(self.parts, 1))
        whole = duration(sum(step.seconds for step in self.parts))
        self._say(f"{len(self.parts)} parts, about {whole} {self.where}: {listed}")

    @contextmanager
    def next(self) -> Iterator[None]:
        """Run the next step in the block."""
        step = self.parts[len(self.took)]
        self._say(f"{len(self.took) + 1} of {len(self.parts)}: {step.name} (about {duration(step.seconds)})")
        start = time.perf_counter()
        yield
        self.took.append(time.perf_counter() - start)

    def summary(self) -> str:
        """The time of each finished step."""
        listed = [f"{step.name} {duration(took)}" for step, took in zip(self.parts, self.took, strict=False)]
        return f"took {duration(sum(self.took))}: {', '.join(listed)}"

    def _say(self, text: str) -> None:
        self.console.print(Text(text), style="dim")
