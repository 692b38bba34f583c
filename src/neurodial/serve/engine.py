"""One thread that owns the model, and the queue before it.

1. Requests wait in the order in which they came; where the queue is full, a new one is refused.
2. Between two passes, cancelled rows leave and waiting ones join, as many as the batch holds.
3. What the model raises ends the rows it concerns, with words; the thread goes on.
4. Closing refuses what is new, lets what runs end, and after a while ends it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import Any

import torch

from neurodial.circuit.circuit import Circuit
from neurodial.errors import QueueFullError, ServerClosedError
from neurodial.intervention.parts_of_pass import tracker
from neurodial.intervention.steer import steered
from neurodial.model.hooks import contiguous_head
from neurodial.model.subject import Subject
from neurodial.serve.batch import RunningBatch, RunningRow, refuse_other_answers
from neurodial.serve.options import EngineOptions
from neurodial.serve.request import Deliver, Event, Failed, Piece, Request
from neurodial.serve.slots import SlotTable, plan_of
from neurodial.text.thinking import special_markers

_log = logging.getLogger(__name__)
CLOSING = "The server is shutting down."


class Engine:
    """Answers requests with different dials in shared batches. A context manager; the model is given back at its end.

    Args:
        subject: the model. Nothing else may use it meanwhile.
        circuits: by name; a request's dials are in this order.
        options: sizes of batch and queue.
        on_pass: called after each pass with the number of rows that it had.

    Raises:
        ModelMismatchError: a circuit was made on another model and `options.force` is false.
        ServingError: answers would depend on what else is served.
        SteeringError: the model has no such neuron, or is compiled.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> with Engine(tiny_subject(), {}) as engine:
        ...     [events] = engine.complete([Request(tokens=(72, 105), max_tokens=3)])
        >>> type(events[-1]).__name__
        'Finished'
    """

    def __init__(
        self,
        subject: Subject,
        circuits: Mapping[str, Circuit],
        options: EngineOptions | None = None,
        *,
        on_pass: Callable[[int], None] | None = None,
    ) -> None:
        self.subject, self.circuits = subject, dict(circuits)
        self.options = options or EngineOptions()
        self._on_pass = on_pass
        everything = list(self.circuits.values())
        how: dict[str, Any] = {"when": self.options.when, "force": self.options.force}
        plan_of(subject, everything, (1.0,) * len(everything), **how)  # refused now, not at a request
        self._table = SlotTable(subject, everything, size=2 * self.options.max_batch + 1, **how)
        if self.options.max_batch > 1:
            refuse_other_answers(subject)
        tracker(subject)  # the first use of a tokenizer may change its settings; later ones only read them
        special_markers(subject.tokenizer, subject.thinking)
        self._change = threading.Condition()
        self._waiting: deque[RunningRow] = deque()
        self._running: tuple[RunningRow, ...] = ()
        self._cancelled: set[RunningRow] = set()
        self._is_closing = False
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._run, name="neurodial-engine", daemon=True)

    def __enter__(self) -> Engine:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(grace=0.0)
        self._thread.join()

    @property
    def waiting(self) -> int:
        """Requests that wait for a place in the batch."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests in the batch."""
        return len(self._running)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs and takes requests."""
        return self._thread.is_alive() and not self._is_closing

    def submit(self, requests: Sequence[Request], deliver: Sequence[Deliver]) -> list[RunningRow]:
        """Queue requests, all or none; each one's events go to its `deliver`, from the engine's thread.

        Raises:
            QueueFullError: there is no room for them.
            ServerClosedError: the engine is closing, or its thread has died.
        """
        rows = [RunningRow(request, receive, self.subject) for request, receive in zip(requests, deliver, strict=True)]
        with self._change:
            if not self.is_alive:
                raise ServerClosedError(CLOSING if self._is_closing else "The engine is not running.")
            room = self.options.max_batch + self.options.max_queue
            if len(self._waiting) + len(self._running) + len(rows) > room:
                raise QueueFullError(
                    f"{len(self._waiting)} requests wait and {len(self._running)} run.",
                    wanted=f"at most {room} together",
                    fix="Try again later.",
                )
            self._waiting.extend(rows)
            self._change.notify_all()
        return rows

    def cancel(self, rows: Sequence[RunningRow]) -> None:
        """End requests whose answers nobody wants any more; they leave before the next pass, without an event."""
        with self._change:
            self._cancelled.update(rows)
            self._change.notify_all()

    def complete(self, requests: Sequence[Request]) -> list[list[Event]]:
        """Queue requests and wait for all their events.

        Raises:
            QueueFullError: there is no room for them.
            ServerClosedError: the engine is closing.
        """
        queues: list[SimpleQueue[Event]] = [SimpleQueue() for _ in requests]
        self.submit(requests, [queue.put for queue in queues])
        return [list(_until_end(queue)) for queue in queues]

    def close(self, *, grace: float) -> None:
        """Refuse what is new, and end what still waits or runs after `grace` seconds."""
        with self._change:
            self._is_closing = True
            self._deadline = time.monotonic() + grace
            self._change.notify_all()

    def wait_closed(self, timeout: float | None = None) -> None:
        """Wait for the end of the thread after `close`."""
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            with (
                torch.inference_mode(),
                contiguous_head(self.subject),
                steered(self.subject, self._table.plan) as steering,
            ):
                batch = RunningBatch(self.subject, steering, self._table)
                while self._turn(batch):
                    pass
        except Exception as error:  # noqa: BLE001  # nobody else is there to hear it; /health shows the thread's end
            self._say("the engine", error)
        finally:
            with self._change:
                self._is_closing = True
                left = [*self._running, *self._waiting]
                self._waiting.clear()
                self._running = ()
            _fail(left, CLOSING)

    def _turn(self, batch: RunningBatch) -> bool:
        """One pass of prompts where there are new ones, and one of the batch; false once all is done (2, 3, 4)."""
        new = self._next(batch)
        if new is None:
            return False
        if new:
            self._guarded(batch, lambda: batch.join(new), [*new], "a prompt")
        if batch.rows:
            if self._on_pass is not None:
                self._on_pass(len(batch.rows))
            self._guarded(batch, batch.step, [], "the batch")
        with self._change:
            self._running = tuple(batch.rows)
        return True

    def _next(self, batch: RunningBatch) -> list[RunningRow] | None:
        """The rows that join now, after the cancelled ones left; None at the end."""
        with self._change:
            self._change.wait_for(lambda: bool(self._waiting or batch.rows or self._is_closing))
            gone, self._cancelled = self._cancelled, set()
            self._waiting = deque(row for row in self._waiting if row not in gone)
            if self._is_closing and self._deadline is not None and time.monotonic() >= self._deadline:
                return None
            new = self._taken(self.options.max_batch - len(batch.rows))
            self._running = (*(row for row in batch.rows if row not in gone), *new)
            is_over = self._is_closing and not self._running and not self._waiting
        if gone:
            batch.drop([row for row in batch.rows if row in gone])
        return None if is_over else new

    def _taken(self, places: int) -> list[RunningRow]:
        """Waiting rows that pass their prompts together: within the places, and the budget of padded tokens."""
        taken: list[RunningRow] = []
        longest = 0
        while self._waiting and len(taken) < places:
            row = self._waiting[0]
            longest = max(longest, row.length)
            alone = row.request.echo or (taken and taken[0].request.echo)
            if taken and (alone or longest * (len(taken) + 1) > self.options.prompt_budget):
                break
            taken.append(self._waiting.popleft())
        return taken

    def _guarded(self, batch: RunningBatch, act: Callable[[], None], new: list[RunningRow], what: str) -> None:
        """Do it; where the model raises, end the rows it concerns and go on with the others (3)."""
        try:
            act()
        except Exception as error:  # noqa: BLE001  # whatever a model raises must not end the other requests
            lost = [row for row in new if row not in batch.rows]
            if not new or not batch.is_whole:
                lost += batch.rows
                batch.clear()
            self._say(what, error)
            _fail(lost, f"The model failed: {type(error).__name__}: {_first_line(error)}")

    @staticmethod
    def _say(what: str, error: Exception) -> None:
        _log.error("%s failed: %s: %s", what, type(error).__name__, _first_line(error))
        _log.debug("where it failed", exc_info=error)


def _until_end(queue: SimpleQueue[Event]) -> list[Event]:
    events = [queue.get()]
    while isinstance(events[-1], Piece):
        events.append(queue.get())
    return events


def _fail(rows: Sequence[RunningRow], message: str) -> None:
    for row in rows:
        if not row.is_over:
            row.end(Failed(message))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "no message")
