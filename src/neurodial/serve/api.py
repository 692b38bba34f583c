"""The routes of the server."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp

from neurodial import __version__
from neurodial.serve.answers import ChatForm, CompletionForm, Form
from neurodial.serve.engine import Engine
from neurodial.serve.failure import ApiError, error_body
from neurodial.serve.flow import ClientGoneError, Flow, line, stream, unless_gone
from neurodial.serve.guard import GuardPolicy, LocalGuard
from neurodial.serve.names import ModelNames
from neurodial.serve.options import ServerOptions
from neurodial.serve.plain_words import plain
from neurodial.serve.prepare import Prepared, Preparer
from neurodial.serve.prometheus import Metrics
from neurodial.serve.schema import FIELDS, ChatBody, CompletionBody

CLIENT_GONE = 499
"""What the metrics count for a client that went away; nobody reads it."""


def application(engine: Engine, model_names: ModelNames, options: ServerOptions, metrics: Metrics) -> ASGIApp:
    """The server as an ASGI application, with everything that stands before it.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> engine = Engine(tiny_subject(), {})
        >>> app = application(engine, ModelNames("tiny", {}), ServerOptions(), Metrics())
        >>> callable(app)
        True
    """
    app = FastAPI(title="neurodial", version=__version__, docs_url=None, redoc_url=None)
    preparer = Preparer(engine.subject, model_names, max_tokens=options.max_tokens)
    server = _Server(engine, metrics, options)
    created = int(time.time())
    metrics.watch(engine)
    _answer_errors(app, metrics)

    @app.get("/health")
    async def health() -> JSONResponse:
        alive = engine.is_alive
        state = {"status": "ok" if alive else "closing", "waiting": engine.waiting, "running": engine.running}
        return JSONResponse(state, status_code=200 if alive else 503)

    @app.get("/metrics")
    async def metrics_page() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": model_names.entries(created)}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        return model_names.entry(name, created)

    @app.post("/v1/chat/completions")
    async def chat(http: HttpRequest, body: ChatBody) -> Response:
        prepared = await asyncio.to_thread(preparer.chat, body)
        form = ChatForm(_identifier("chatcmpl"), int(time.time()), body.model, server.tokenizer, body.top is not None)
        return await server.answer(http, body, prepared, form)

    @app.post("/v1/completions")
    async def completions(http: HttpRequest, body: CompletionBody) -> Response:
        prepared = await asyncio.to_thread(preparer.completion, body)
        scores = body.logprobs is not None
        form = CompletionForm(
            _identifier("cmpl"), int(time.time()), body.model, server.tokenizer, scores, prepared.echoed
        )
        return await server.answer(http, body, prepared, form)

    guarded: ASGIApp = LocalGuard(app, _policy(options), on_refusal=lambda status: metrics.answered("refused", status))
    if options.allow_origin:
        guarded = CORSMiddleware(guarded, allow_origins=options.allow_origin, allow_methods=["*"], allow_headers=["*"])
    return guarded


def _policy(options: ServerOptions) -> GuardPolicy:
    return GuardPolicy(
        hosts=options.allow_host,
        origins=options.allow_origin,
        api_key=options.api_key,
        max_body=options.max_body,
        timeout=options.timeout,
        wanted_host="localhost, an address, or a name given by --allow-host",
        wanted_origin="one given by --allow-origin",
    )


class _Server:
    """How a prepared request is answered."""

    def __init__(self, engine: Engine, metrics: Metrics, options: ServerOptions) -> None:
        self._engine, self._metrics, self._options = engine, metrics, options
        self.tokenizer = engine.subject.tokenizer

    async def answer(
        self, http: HttpRequest, body: ChatBody | CompletionBody, prepared: Prepared, form: Form
    ) -> Response:
        flow = Flow(self._engine, self._metrics, prepared.requests, timeout=self._options.timeout)
        try:
            if body.stream:
                with_usage = body.stream_options is not None and body.stream_options.include_usage
                events = flow.events()
                first = await unless_gone(http, _first(events))  # an error before it still gets its own status
                chunks = self._counted(http, flow, stream(flow, events, form, first=first, with_usage=with_usage))
                return StreamingResponse(chunks, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
            await unless_gone(http, flow.whole())
        except ClientGoneError:
            flow.abandon()
            self._metrics.cancelled()
            self._metrics.answered(http.url.path, CLIENT_GONE)
            return Response(status_code=CLIENT_GONE)
        except BaseException:
            flow.abandon()
            raise
        self._metrics.answered(http.url.path, 200)
        return JSONResponse(form.whole(flow.answers, flow.prompt_tokens))

    async def _counted(self, http: HttpRequest, flow: Flow, chunks: AsyncIterator[str]) -> AsyncIterator[str]:
        """The chunks, after an error its words, and in the metrics how it ended."""
        status = CLIENT_GONE
        try:
            async for chunk in chunks:
                yield chunk
            status = 200
        except ApiError as error:
            status = error.status
            yield line(error.body)
        finally:
            flow.abandon()
            self._metrics.answered(http.url.path, status)
            if status == CLIENT_GONE:
                self._metrics.cancelled()


def _answer_errors(app: FastAPI, metrics: Metrics) -> None:
    """Every error in OpenAI's form, with words; what nobody foresaw too."""

    async def refused(http: HttpRequest, error: Exception) -> Response:
        assert isinstance(error, ApiError)  # noqa: S101  # registered for it
        return _failure(http, error)

    async def invalid(http: HttpRequest, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for it
        return _failure(http, plain(error.errors(), FIELDS))

    async def http_error(http: HttpRequest, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  # registered for it
        words = {404: "There is nothing here.", 405: "This address does not take that method."}
        return _failure(http, ApiError(error.status_code, words.get(error.status_code, str(error.detail))))

    def _failure(http: HttpRequest, error: ApiError) -> Response:
        known = http.scope.get("route")
        metrics.answered(getattr(known, "path", "other"), error.status)
        body = error_body(error.status, error.message, code=error.code, param=error.param)
        return JSONResponse(body, status_code=error.status, headers=error.headers)

    async def unforeseen(http: HttpRequest, error: Exception) -> Response:
        return _failure(http, ApiError(500, f"The server failed: {type(error).__name__}.", code="internal"))

    app.add_exception_handler(ApiError, refused)
    app.add_exception_handler(Exception, unforeseen)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)


async def _first(events: AsyncIterator[Any]) -> Any:
    return await anext(events)


def _identifier(kind: str) -> str:
    return f"{kind}-{secrets.token_hex(12)}"
