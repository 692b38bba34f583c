"""Who may talk to the studio, and how much: checked before any route sees a request.

1. The Host must be a name of this server, or a name that another site points at this machine would do (DNS
   rebinding).
2. A foreign Origin is refused, whatever it asks for.
3. Bodies have a limit, also where their length is not said.
4. Answers may not be framed, sniffed or cached, and pages load nothing from elsewhere.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from neurodial.serve.address import host_name, is_numeric, is_own_origin

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_LIMIT = 1_000_000
"""Bytes of a request's body."""
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; frame-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; base-uri 'none'; "
    "form-action 'none'"
)
"""For reports: they hold text that models wrote, and need no scripts."""


class Guard:
    """The middleware.

    Args:
        app: what is guarded.
        host: the address that the server was told to listen on.
    """

    def __init__(self, app: Application, host: str = "127.0.0.1") -> None:
        self._app, self._host = app, host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(headers)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        body = _Body(receive, send)
        with contextlib.suppress(_TooLargeError):
            await self._app(scope, body.receive, _with_headers(body.send))
        if body.is_too_large:
            await _answer(send, 413, _too_large())

    def _refusal(self, headers: dict[str, str]) -> tuple[int, dict[str, str]] | None:
        host = headers.get("host", "")
        if not is_own_host(host, self._host):
            return 403, {
                "problem": f"The request is for the host {host[:80]!r}.",
                "wanted": "this server's own address",
                "fix": "Open the address that the terminal shows; start with --host to listen elsewhere.",
            }
        origin = headers.get("origin")
        if origin is not None and not is_own_origin(origin, host):
            return 403, {
                "problem": f"The request comes from {origin[:80]!r}.",
                "wanted": "the studio's own page",
                "fix": "Other sites may not use this server.",
            }
        if headers.get("sec-fetch-site") in {"cross-site", "same-site"} and headers.get("sec-fetch-mode") != "navigate":
            return 403, {"problem": "The request comes from another site.", "wanted": "the studio's own page"}
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > BODY_LIMIT:
            return 413, _too_large()
        return None


def is_own_host(header: str, bound: str) -> bool:
    """Whether a Host header names this server.

    A server bound to every address has many; numeric ones are taken, since rebinding needs a name.

    Example:
        >>> is_own_host("localhost:8421", "127.0.0.1"), is_own_host("evil.example:8421", "127.0.0.1")
        (True, False)
    """
    name = host_name(header)
    if name in LOCAL_NAMES or name == bound:
        return True
    return bound in {"0.0.0.0", "::"} and is_numeric(name)  # noqa: S104  # compared with, not bound to


class _TooLargeError(Exception):
    """A body grew past the limit while it was read."""


def _too_large() -> dict[str, str]:
    return {
        "problem": "The request is too large.",
        "wanted": f"at most {BODY_LIMIT:,} bytes",
        "fix": "Send fewer or shorter prompts.",
    }


class _Body:
    """Reads a body as far as the limit; past it, whatever the application answers is dropped."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._seen = 0
        self.is_too_large = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > BODY_LIMIT:
            self.is_too_large = True
            raise _TooLargeError
        return message

    async def send(self, message: Message) -> None:
        if not self.is_too_large:
            await self._send(message)


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            added = {
                b"content-security-policy": PAGE_POLICY.encode(),
                b"x-content-type-options": b"nosniff",
                b"referrer-policy": b"no-referrer",
                b"cross-origin-resource-policy": b"same-origin",
                b"cache-control": b"no-cache",
            }
            message["headers"] = [*message["headers"], *((k, v) for k, v in added.items() if k not in present)]
        await send(message)

    return send_with_headers


async def _answer(send: Send, status: int, words: dict[str, str]) -> None:
    body = json.dumps({"error": words}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
