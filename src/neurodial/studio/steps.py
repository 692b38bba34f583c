"""The steps of a job: which there were, how long each took, how far the running one is and how long it still takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Step:
    """Work of one description, perhaps begun several times: a search measures the same again and again.

    Attributes:
        description: in words.
        done: finished parts of the last time.
        total: parts of the last time.
        times: how often it was begun.
        ended: seconds of the times before the last, and of the last once that is over.
        begun: when the last time began, by the monotonic clock; None once it is over.
    """

    description: str
    done: int = 0
    total: int = 0
    times: int = 0
    ended: float = 0.0
    begun: float | None = None

    def view(self, now: float) -> dict[str, Any]:
        """As plain values: `left` is None where nothing of it is done yet, or nothing is left."""
        running = 0.0 if self.begun is None else now - self.begun
        has_rest = self.begun is not None and 0 < self.done < self.total
        return {
            "description": self.description,
            "done": self.done,
            "total": self.total,
            "times": self.times,
            "seconds": round(self.ended + running, 1),
            "left": round(running / self.done * (self.total - self.done), 1) if has_rest else None,
            "running": self.begun is not None,
        }


@dataclass
class Steps:
    """The steps of a job in the order in which they were first begun.

    Example:
        >>> steps = Steps()
        >>> with steps.step("reading", total=2) as step:
        ...     step.done = 1
        >>> [(step["description"], step["done"], step["running"]) for step in steps.view()]
        [('reading', 1, False)]
    """

    steps: dict[str, Step] = field(default_factory=dict)
    last: str = ""

    @property
    def progress(self) -> tuple[str, int, int]:
        """What moved last: description, parts done, parts in all."""
        step = self.steps.get(self.last, Step(""))
        return step.description, step.done, step.total

    @contextmanager
    def step(self, description: str, total: int) -> Iterator[Step]:
        """Begin a step, or begin it again; it is over at the end of the block, also after an error."""
        step = self.steps.setdefault(description, Step(description))
        begun = time.monotonic()
        step.done, step.total, step.times, step.begun = 0, total, step.times + 1, begun
        before, self.last = self.last, description
        try:
            yield step
        finally:
            step.ended += time.monotonic() - begun
            step.begun = None
            outer = self.steps.get(before)
            if outer is not None and outer.begun is not None:
                self.last = before

    def view(self) -> list[dict[str, Any]]:
        """Every step as plain values."""
        now = time.monotonic()
        return [step.view(now) for step in list(self.steps.values())]
