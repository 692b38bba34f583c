"""One worker with the model, and a queue before it: answers, discoveries, evaluations, exports.

1. A job is put into the queue; urgent ones (answers) go before the others, never into a running one.
2. The worker runs one job at a time. What it says on the way is kept with it, so a page that comes late, or comes
   again, reads all of it from the beginning.
3. To cancel is to raise `Cancelled` inside the work: from its progress, and before each forward pass of the model.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from neurodial.errors import NeurodialError, OptionError
from neurodial.model.hooks import Handle, installed, on_forward
from neurodial.model.subject import Subject
from neurodial.provenance import now
from neurodial.studio.steps import Steps

State = Literal["queued", "running", "done", "failed", "cancelled"]
QUEUE = 20
"""How many jobs may wait."""
KEPT = 200
"""How many finished jobs are remembered."""
_log = logging.getLogger(__name__)


class Cancelled(Exception):  # noqa: N818  # not an error: somebody asked for it
    """The job was cancelled."""


@dataclass
class Job:
    """A piece of work and everything it has said. Changes under the queue's lock; its steps by its worker alone.

    Attributes:
        number: its id, counted from 1.
        kind: what it does, for the page.
        title: in words.
        state: queued, running, done, failed or cancelled.
        asked: the request that it came from, as plain values.
        created: when, ISO 8601.
        steps: what it did, and what it is at.
        events: what it said, in order; plain values.
        error: what went wrong, in words.
        value: what came out; stays on the server.
    """

    number: int
    kind: str
    title: str
    state: State = "queued"
    asked: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    steps: Steps = field(default_factory=Steps)
    events: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, str | None] | None = None
    value: Any = None
    is_stopped: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come from it."""
        return self.state in {"done", "failed", "cancelled"}


class Reporter:
    """What a running job says how far it is with, and learns from that it is to stop."""

    def __init__(self, queue: JobQueue, job: Job) -> None:
        self._queue, self._job = queue, job

    def check(self) -> None:
        """Go on, or raise.

        Raises:
            Cancelled: somebody cancelled the job.
        """
        if self._job.is_stopped:
            raise Cancelled

    def say(self, kind: str, **values: Any) -> None:
        """Add an event for everybody who listens."""
        self.check()
        self._queue.add_event(self._job, {"event": kind, **values})

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """A `Progress` for the library."""
        self.check()
        with self._job.steps.step(description, total) as step:

            def advance(steps: int) -> None:
                step.done += steps
                self.check()

            yield advance

    @contextmanager
    def stoppable(self, subject: Subject) -> Iterator[None]:
        """Inside, every forward pass of the model first looks whether the job was cancelled."""

        def look(rows: int, tokens: int, cached: int) -> None:
            del rows, tokens, cached
            self.check()

        def install(handles: list[Handle]) -> None:
            handles.append(on_forward(subject, look))

        with installed(install):
            yield


Run = Callable[[Reporter], Any]


class JobQueue:
    """The queue and its worker.

    Example:
        >>> queue = JobQueue()
        >>> job = queue.submit("sum", "one and one", lambda reporter: 1 + 1)
        >>> queue.wait(job, 0, seconds=5.0)[1], job.state, job.value
        (True, 'done', 2)
        >>> queue.close()
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._jobs: dict[int, Job] = {}
        self._waiting: list[tuple[int, int, Run]] = []
        self._is_closed = False
        self._worker = threading.Thread(target=self._work, name="neurodial-studio", daemon=True)
        self._worker.start()

    def submit(
        self, kind: str, title: str, run: Run, *, asked: dict[str, Any] | None = None, is_urgent: bool = False
    ) -> Job:
        """Put a job into the queue.

        Raises:
            OptionError: the queue is full.
        """
        with self._changed:
            if len(self._waiting) >= QUEUE:
                raise OptionError(
                    f"{len(self._waiting)} jobs are waiting already.",
                    wanted=f"at most {QUEUE}",
                    fix="Cancel some, or wait until one ends.",
                )
            job = Job(next(self._numbers), kind, title, asked=asked or {}, created=now())
            self._jobs[job.number] = job
            heapq.heappush(self._waiting, (0 if is_urgent else 1, job.number, run))
            self._forget()
            self._changed.notify_all()
        return job

    def jobs(self) -> list[Job]:
        """Every job that is remembered, oldest first."""
        with self._changed:
            return list(self._jobs.values())

    def find(self, number: int) -> Job | None:
        """A job by its number."""
        with self._changed:
            return self._jobs.get(number)

    def cancel(self, job: Job) -> None:
        """Stop a job: before it starts, or at its next step."""
        with self._changed:
            job.is_stopped = True
            if job.state == "queued":
                job.state = "cancelled"
                self._waiting = [entry for entry in self._waiting if entry[1] != job.number]
                heapq.heapify(self._waiting)
            self._changed.notify_all()

    def wait(self, job: Job, after: int, *, seconds: float) -> tuple[list[dict[str, Any]], bool]:
        """Events of a job from number `after` on, waiting for one if need be, and whether it is over."""
        with self._changed:
            self._changed.wait_for(lambda: len(job.events) > after or job.is_over or self._is_closed, seconds)
            return job.events[after:], job.is_over or self._is_closed

    def close(self) -> None:
        """Stop everything; the running job ends at its next step."""
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            for job in self._jobs.values():
                job.is_stopped = True
            self._changed.notify_all()
        self._worker.join(timeout=10)

    def add_event(self, job: Job, event: dict[str, Any]) -> None:
        """Keep what a job said."""
        with self._changed:
            job.events.append(event)
            self._changed.notify_all()

    def _forget(self) -> None:
        over = [number for number, job in self._jobs.items() if job.is_over]
        for number in over[: max(0, len(over) - KEPT)]:
            del self._jobs[number]

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if self._is_closed:
                    return
                _, number, run = heapq.heappop(self._waiting)
                job = self._jobs[number]
                job.state = "running"
                self._changed.notify_all()
            state, error, value = _run(run, Reporter(self, job))
            with self._changed:
                job.state, job.error, job.value = state, error, value
                self._changed.notify_all()


def in_words(error: BaseException) -> dict[str, str | None]:
    """An error as the page shows it: what came, what was wanted, what to do."""
    if isinstance(error, NeurodialError):
        return {"kind": type(error).__name__, "problem": error.problem, "wanted": error.wanted, "fix": error.fix}
    first = (str(error).splitlines() or [""])[0][:500]
    return {
        "kind": type(error).__name__,
        "problem": f"Something unexpected went wrong: {type(error).__name__}: {first}",
        "wanted": None,
        "fix": "The details stand in the terminal that runs the studio.",
    }


def _run(run: Run, reporter: Reporter) -> tuple[State, dict[str, str | None] | None, Any]:
    try:
        return "done", None, run(reporter)
    except Cancelled:
        return "cancelled", None, None
    except NeurodialError as error:
        return "failed", in_words(error), None
    except Exception as error:  # noqa: BLE001  # the page says it, the terminal keeps the details, the worker goes on
        _log.exception("a job failed")
        return "failed", in_words(error), None
