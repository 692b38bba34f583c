"""The studio's server: thin routes over its state, and the page's own files."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path
from typing import Any

import anyio
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles

from neurodial import __version__
from neurodial.errors import NeurodialError, UnknownNameError
from neurodial.serve.guard import LocalGuard
from neurodial.studio.endpoints import find_job, job_values, library_routes, work_routes
from neurodial.studio.jobs import Job, in_words
from neurodial.studio.safety import refusal_in_words, studio_policy
from neurodial.studio.studio_state import StudioState

_PATIENCE = 15.0  # seconds after which a silent stream says that it is still there


def create_app(studio: StudioState, *, host: str = "127.0.0.1") -> FastAPI:
    """The application.

    Args:
        studio: what it serves.
        host: the address it will listen on: requests for other hosts are refused.

    Example:
        >>> import tempfile
        >>> from neurodial.model.tiny import tiny_subject
        >>> from neurodial.studio.jobs import JobQueue
        >>> from neurodial.studio.collection import Collection
        >>> queue = JobQueue()
        >>> studio = StudioState(tiny_subject(), Collection(Path(tempfile.mkdtemp()), {}), queue)
        >>> create_app(studio).title
        'neurodial studio'
        >>> queue.close()
    """
    app = FastAPI(title="neurodial studio", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(LocalGuard, policy=studio_policy(host), body_of=refusal_in_words)
    app.add_exception_handler(NeurodialError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    _job_routes(app, studio)
    library_routes(app, studio)
    work_routes(app, studio)
    app.mount("/", StaticFiles(directory=static_folder(), html=True), name="page")
    return app


def static_folder() -> Path:
    """Where the page's files are."""
    return Path(str(resources.files("neurodial.studio"))) / "static"


def _job_routes(app: FastAPI, studio: StudioState) -> None:
    queue = studio.queue

    @app.get("/api/jobs")
    def jobs() -> list[dict[str, Any]]:
        return [job_values(job) for job in queue.jobs()]

    @app.get("/api/jobs/{number}")
    def job(number: int) -> dict[str, Any]:
        return job_values(find_job(studio, number))

    @app.delete("/api/jobs/{number}")
    def cancel(number: int) -> dict[str, Any]:
        job = find_job(studio, number)
        queue.cancel(job)
        return job_values(job)

    @app.get("/api/jobs/{number}/events")
    def events(number: int, request: Request) -> StreamingResponse:
        after = request.headers.get("last-event-id", "")
        start = int(after) + 1 if after.isdigit() and len(after) < 10 else 0
        return StreamingResponse(_stream(studio, find_job(studio, number), start), media_type="text/event-stream")


async def _stream(studio: StudioState, job: Job, start: int) -> AsyncIterator[str]:
    """The events of a job as server-sent events, from one on; the last one says how it ended."""
    sent = start
    while True:

        def wait(after: int = sent) -> tuple[list[dict[str, Any]], bool]:
            return studio.queue.wait(job, after, seconds=_PATIENCE)

        new, is_over = await anyio.to_thread.run_sync(wait, abandon_on_cancel=True)
        if new:
            yield "".join(f"id: {sent + place}\ndata: {_compact(event)}\n\n" for place, event in enumerate(new))
        elif not is_over:
            yield ": still here\n\n"
        sent += len(new)
        if is_over and sent >= len(job.events):
            yield f"event: over\ndata: {_compact(job_values(job))}\n\n"
            return


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


async def _on_error(request: Request, error: Exception) -> Response:
    del request
    status = 404 if isinstance(error, UnknownNameError) else 400
    return JSONResponse({"error": in_words(error)}, status_code=status)


async def _on_invalid(request: Request, error: Exception) -> Response:
    del request
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    where = ".".join(str(part) for part in first.get("loc", ())[1:])
    came = str(first.get("input"))[:80]
    words = {
        "kind": "request",
        "problem": f"{where or 'The request'} is {came!r}.",
        "wanted": first.get("msg"),
        "fix": None,
    }
    return JSONResponse({"error": words}, status_code=422)
