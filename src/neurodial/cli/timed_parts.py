"""A command in steps: each is announced with its share of the whole and the time left, and reported at the end.

The time left is that of an unhurried machine, times how much slower the finished steps were here.
"""

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
    """A step of a command.

    Attributes:
        name: what is done.
        seconds: how long it took where it was measured; what a user is told to expect. 0: nobody knows.
    """

    name: str
    seconds: float = 0.0


@dataclass
class TimedParts:
    """Announces steps one by one and keeps their times.

    Attributes:
        parts: all of them, in order.
        console: where they are announced.
        where: on what the expected times were measured.
    """

    parts: Sequence[TimedPart]
    console: Console
    where: str = ""
    took: list[float] = field(default_factory=list)

    def announce(self) -> None:
        """Announce how long the whole and each step will take."""
        listed = "; ".join(f"{n} {step.name} {duration(step.seconds)}" for n, step in enumerate(self.parts, 1))
        self._say(f"{len(self.parts)} steps, about {duration(self._expected())} {self.where}: {listed}")

    @contextmanager
    def next(self) -> Iterator[None]:
        """Run the next step in the block."""
        number = len(self.took)
        step = self.parts[number]
        self._say(f"step {number + 1} of {len(self.parts)}: {step.name}{self._share_and_left(number)}")
        start = time.perf_counter()
        yield
        self.took.append(time.perf_counter() - start)

    def _share_and_left(self, number: int) -> str:
        """In words, where it is known how long the steps take."""
        whole = self._expected()
        if not whole:
            return ""
        left = duration(self._expected(number) * self._slowness())
        return f" ({self.parts[number].seconds / whole:.0%} of the whole; about {left} left)"

    def _expected(self, first: int = 0) -> float:
        """Seconds of the steps from `first` on, where they were measured."""
        return sum(step.seconds for step in self.parts[first:])

    def _slowness(self) -> float:
        """How much longer finished steps took than expected; 1 before the second is done, as loading tells little."""
        if len(self.took) < 2:
            return 1.0
        return sum(self.took) / (self._expected() - self._expected(len(self.took)))

    def summary(self) -> str:
        """The time of each finished step."""
        listed = [f"{step.name} {duration(took)}" for step, took in zip(self.parts, self.took, strict=False)]
        return f"took {duration(sum(self.took))}: {', '.join(listed)}"

    def _say(self, text: str) -> None:
        self.console.print(Text(text), style="dim")


def steps(console: Console, *names: str) -> TimedParts:
    r"""Steps of which nobody knows how long they take.

    Example:
        >>> import io
        >>> console = Console(file=io.StringIO())
        >>> with steps(console, "loading demo", "tracing").next():
        ...     pass
        >>> console.file.getvalue()
        'step 1 of 2: loading demo\n'
    """
    return TimedParts(tuple(map(TimedPart, names)), console)
