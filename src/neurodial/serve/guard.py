"""What stands before every request: who may ask, from where, and how much.

1. `Host` must be an address, localhost or an allowed name: a page whose name was rebound to this machine is refused.
2. `Origin`, which browsers send, must be this server's own or an allowed one.
3. The token, where one is set; only `/health` goes without.
4. The body is read here, up to the limit, within the time.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neurodial.serve.address import host_name, is_numeric, is_own_origin
from neurodial.serve.failure import ApiError
from neurodial.serve.options import ServerOptions

OPEN_PATHS = ("/health",)


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, options: ServerOptions, on_refusal: Callable[[int], None]) -> None:
        self._app, self._options, self._on_refusal = app, options, on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request and pass it on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = _headers(scope)
            check_host(headers.get("host", ""), self._options.allow_host)
            check_origin(headers.get("origin"), headers.get("host", ""), self._options.allow_origin)
            if scope["path"] not in OPEN_PATHS:
                check_token(headers.get("authorization", ""), self._options.api_key)
            body = await self._body(headers.get("content-length"), receive) if scope["method"] == "POST" else b""
        except ApiError as error:
            self._on_refusal(error.status)
            await answer(send, error)
            return
        await self._app(scope, _replay(body, receive) if scope["method"] == "POST" else receive, send)

    async def _body(self, announced: str | None, receive: Receive) -> bytes:
        limit = self._options.max_body
        if announced is not None and announced.isdecimal() and int(announced) > limit:
            raise _too_large(limit)
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self._options.timeout):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ApiError(400, "The connection ended before the body did.")
                    parts.append(message.get("body", b""))
                    if sum(map(len, parts)) > limit:
                        raise _too_large(limit)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise ApiError(408, f"The body did not come within {self._options.timeout:g} seconds.") from None


def check_host(host: str, allowed: tuple[str, ...]) -> None:
    """Refuse a `Host` that a rebound name may stand behind (1).

    Raises:
        ApiError: 403.
    """
    name = host_name(host)
    if name == "localhost" or name.endswith(".localhost") or is_numeric(name) or name in allowed or "*" in allowed:
        return
    raise ApiError(
        403,
        f"The host {host[:200]!r} is not allowed. Wanted: localhost, an address, or a name given by --allow-host.",
        code="host_not_allowed",
    )


def check_origin(origin: str | None, host: str, allowed: tuple[str, ...]) -> None:
    """Refuse a web page of another origin (2).

    Raises:
        ApiError: 403.
    """
    if origin is None or "*" in allowed or origin in allowed or is_own_origin(origin, host):
        return
    raise ApiError(
        403,
        f"The origin {origin[:200]!r} is not allowed. Wanted: one given by --allow-origin.",
        code="origin_not_allowed",
    )


def check_token(authorization: str, key: str | None) -> None:
    """Refuse a request without the token, in a time that does not depend on it (3).

    Raises:
        ApiError: 401.
    """
    scheme, _, token = authorization.partition(" ")
    if key is None or (scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), key.encode())):
        return
    raise ApiError(
        401,
        "The API key is missing or wrong. Wanted: the header 'Authorization: Bearer KEY'.",
        code="invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
    )


async def answer(send: Send, error: ApiError) -> None:
    """Send an error by itself."""
    body = json.dumps(error.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    raw = [(name.lower().encode(), value.encode()) for name, value in (headers | error.headers).items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _headers(scope: Scope) -> dict[str, str]:
    """The headers by name.

    Raises:
        ApiError: one that must be alone stands twice, so a proxy may have read the other.
    """
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1").lower()
        if name in found and name in {"host", "origin", "authorization"}:
            raise ApiError(400, f"The header {name!r} stands twice.")
        found[name] = value.decode("latin-1")
    return found


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body again, and after it what the connection says."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Any:
        return messages.pop() if messages else await receive()

    return replayed


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"The body is too large. Wanted: at most {limit} bytes (--max-body).", code="body_too_large")
