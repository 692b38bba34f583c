"""From the engine's thread to one HTTP request, and back when the client goes away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

from starlette.requests import Request as HttpRequest

from neurodial.errors import QueueFullError, ServerClosedError
from neurodial.serve.answers import Collected, Form
from neurodial.serve.batch import RunningRow
from neurodial.serve.engine import CLOSING, Engine
from neurodial.serve.failure import ApiError
from neurodial.serve.prometheus import Metrics
from neurodial.serve.request import Deliver, Event, Failed, Finished, Piece, Request

Result = TypeVar("Result")


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


class Flow:
    """The events of one HTTP request: those of its sequences, mixed as they come.

    Raises:
        ApiError: 429 where the queue is full, 503 where the server is closing.
    """

    def __init__(self, engine: Engine, metrics: Metrics, requests: Sequence[Request], *, timeout: float) -> None:
        self._engine, self._metrics, self._requests = engine, metrics, requests
        self._began = time.monotonic()
        self._timeout = timeout
        self._queue: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._rows: list[RunningRow] = []
        self.answers = [Collected() for _ in requests]
        self.prompt_tokens = sum(len(request.tokens) for request in requests)
        loop = asyncio.get_running_loop()
        try:
            self._rows = engine.submit(requests, [self._receiver(loop, place) for place in range(len(requests))])
        except QueueFullError as error:
            wait = metrics.retry_after(engine)
            raise ApiError(429, str(error), code="queue_full", headers={"Retry-After": str(wait)}) from error
        except ServerClosedError as error:
            raise ApiError(503, str(error), code="closing", headers={"Retry-After": "5"}) from error

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """Pieces and ends, each with the number of its sequence.

        Raises:
            ApiError: 504 when the time is over, 500 where the model failed, 503 where the server closed.
        """
        left = len(self._requests)
        is_first = True
        while left:
            index, event = await self._next()
            if is_first:
                self._metrics.began(time.monotonic() - self._began)
                is_first = False
            if isinstance(event, Failed):
                status = 503 if event.message == CLOSING else 500
                raise ApiError(status, event.message, code="closing" if status == 503 else "model_failed")
            if isinstance(event, Finished):
                left -= 1
                self.answers[index].reason, self.answers[index].tokens = event.reason, event.tokens
            else:
                self.answers[index].add(event)
            yield index, event
        made = sum(answer.tokens for answer in self.answers)
        self._metrics.finished(time.monotonic() - self._began, self.prompt_tokens, made)

    async def whole(self) -> None:
        """Wait for the ends of all sequences."""
        async for _ in self.events():
            pass

    def abandon(self) -> None:
        """Free the places of what has not ended."""
        running = [row for row in self._rows if not row.is_over]
        if running:
            self._engine.cancel(running)

    async def _next(self) -> tuple[int, Event]:
        try:
            async with asyncio.timeout(max(0.0, self._began + self._timeout - time.monotonic())):
                return await self._queue.get()
        except TimeoutError:
            raise ApiError(
                504, f"The answer took longer than {self._timeout:g} seconds (--timeout).", code="timeout"
            ) from None

    def _receiver(self, loop: asyncio.AbstractEventLoop, place: int) -> Deliver:
        def receive(event: Event) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(self._queue.put_nowait, (place, event))

        return receive


async def unless_gone(http: HttpRequest, work: Coroutine[Any, Any, Result]) -> Result:
    """Do the work, but stop it when the client goes away.

    Raises:
        ClientGoneError: it went away.
    """
    doing = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(http))
    try:
        await asyncio.wait([doing, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientGoneError
        return doing.result()
    finally:
        for task in (doing, leaving):
            task.cancel()
        await asyncio.gather(doing, leaving, return_exceptions=True)


async def stream(
    flow: Flow, events: AsyncIterator[tuple[int, Event]], form: Form, *, first: tuple[int, Event], with_usage: bool
) -> AsyncIterator[str]:
    """Server-sent events.

    Raises:
        ApiError: as `Flow.events` does.
    """
    for index in range(len(flow.answers)):
        opening = form.first(index, with_usage=with_usage)
        if opening is not None:
            yield line(opening)
    yield line(_chunk(form, *first, with_usage=with_usage))
    async for index, event in events:
        yield line(_chunk(form, index, event, with_usage=with_usage))
    if with_usage:
        yield line(form.total(flow.answers, flow.prompt_tokens))
    yield "data: [DONE]\n\n"


def _chunk(form: Form, index: int, event: Event, *, with_usage: bool) -> dict[str, Any]:
    if isinstance(event, Piece):
        return form.piece(index, event, with_usage=with_usage)
    assert isinstance(event, Finished)  # noqa: S101  # events() raises a failure
    return form.last(index, event.reason, with_usage=with_usage)


def line(value: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


async def _gone(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
