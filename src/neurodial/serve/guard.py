"""What stands before every request of a local server, the API's and the studio's: who may ask, from where, how much.

1. `Host` must be localhost, an address, or an allowed name: a page whose name was rebound to this machine is refused.
2. `Origin`, which browsers send, must be this server's own or an allowed one; where a browser sends none, its fetch
   metadata must not say that another site asks. A link that somebody follows is no attack.
3. The token, where one is set; only `/health` goes without.
4. The body is read here, up to the limit, within the time.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neurodial.serve.address import host_name, is_loopback, is_numeric, is_own_origin
from neurodial.serve.failure import ApiError

OPEN_PATHS = ("/health",)
_WITH_BODY = {"POST", "PUT", "PATCH"}
_ALONE = {"host", "origin", "authorization"}


@dataclass(frozen=True)
class GuardPolicy:
    """What a local server lets in.

    Attributes:
        hosts: names that requests may be addressed to, beside localhost and this machine's own addresses; * for all.
        any_number: whether every address in numbers is taken: no name can be rebound to one.
        origins: origins whose pages may call, beside the server's own; * for all.
        api_key: the token that is asked for, or None.
        max_body: bytes of a request's body.
        timeout: seconds within which the body has to come.
        headers: headers that every answer gets, where it does not have them.
        wanted_host: what a refusal says of hosts.
        wanted_origin: what a refusal says of origins.

    Example:
        >>> GuardPolicy(hosts=("box.local",), any_number=False).takes_host("192.168.0.7:8421")
        False
    """

    hosts: tuple[str, ...] = ()
    any_number: bool = True
    origins: tuple[str, ...] = ()
    api_key: str | None = None
    max_body: int = 1 << 20
    timeout: float = 300.0
    headers: Mapping[str, str] = field(default_factory=dict)
    wanted_host: str = "this server's own address"
    wanted_origin: str = "this server's own page"

    def takes_host(self, host: str) -> bool:
        """Whether a `Host` header names this server (1)."""
        name = host_name(host)
        if is_loopback(name) or name.endswith(".localhost") or name in self.hosts or "*" in self.hosts:
            return True
        return self.any_number and is_numeric(name)

    def takes_origin(self, origin: str, host: str) -> bool:
        """Whether pages of an `Origin` may call (2)."""
        return "*" in self.origins or origin in self.origins or is_own_origin(origin, host)

    def takes_token(self, authorization: str) -> bool:
        """Whether the token is right, in a time that does not depend on it (3)."""
        if self.api_key is None:
            return True
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self.api_key.encode())


class LocalGuard:
    """An ASGI application around another one.

    Args:
        app: what is guarded.
        policy: what is let in.
        on_refusal: told the status of each refusal.
        body_of: the JSON of a refusal; by default the form that OpenAI's clients read.
    """

    def __init__(
        self,
        app: ASGIApp,
        policy: GuardPolicy,
        *,
        on_refusal: Callable[[int], None] | None = None,
        body_of: Callable[[ApiError], dict[str, Any]] = lambda error: error.body,
    ) -> None:
        self._app, self._policy, self._on_refusal, self._body_of = app, policy, on_refusal, body_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request and pass it on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _with_headers(send, self._policy.headers)
        try:
            headers = _headers(scope)
            check_request(scope["path"], headers, self._policy)
            if scope["method"] in _WITH_BODY:
                receive = _replay(await _body(receive, self._policy), receive)
        except ApiError as error:
            if self._on_refusal is not None:
                self._on_refusal(error.status)
            await _answer(send, error, self._body_of(error))
            return
        await self._app(scope, receive, send)


def check_request(path: str, headers: Mapping[str, str], policy: GuardPolicy) -> None:
    """Refuse by the headers alone (1, 2, 3, and the body's announced length).

    Raises:
        ApiError: 403 for host and origin, 401 for the token, 413 for the length.
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    if not policy.takes_host(host):
        raise ApiError(
            403, f"The request is for the host {host[:200]!r}.", wanted=policy.wanted_host, code="host_not_allowed"
        )
    if origin is not None and not policy.takes_origin(origin, host):
        raise ApiError(
            403, f"The request comes from {origin[:200]!r}.", wanted=policy.wanted_origin, code="origin_not_allowed"
        )
    from_elsewhere = headers.get("sec-fetch-site") in {"cross-site", "same-site"}
    if origin is None and from_elsewhere and headers.get("sec-fetch-mode") != "navigate":
        raise ApiError(
            403, "The request comes from another site.", wanted=policy.wanted_origin, code="origin_not_allowed"
        )
    if path not in OPEN_PATHS and not policy.takes_token(headers.get("authorization", "")):
        raise ApiError(
            401,
            "The API key is missing or wrong.",
            wanted="the header 'Authorization: Bearer KEY'",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > policy.max_body:
        raise _too_large(policy.max_body)


async def _body(receive: Receive, policy: GuardPolicy) -> bytes:
    """The whole body (4); its length is counted, since a client need not announce it."""
    parts: list[bytes] = []
    try:
        async with asyncio.timeout(policy.timeout):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ApiError(400, "The connection ended before the body did.")
                parts.append(message.get("body", b""))
                if sum(map(len, parts)) > policy.max_body:
                    raise _too_large(policy.max_body)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise ApiError(408, f"The body did not come within {policy.timeout:g} seconds.") from None


def _headers(scope: Scope) -> dict[str, str]:
    """The headers by name.

    Raises:
        ApiError: one that must be alone stands twice, so a proxy may have read the other.
    """
    by_name: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1").lower()
        if name in by_name and name in _ALONE:
            raise ApiError(400, f"The header {name!r} stands twice.")
        by_name[name] = value.decode("latin-1")
    return by_name


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body again, and after it what the connection says."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Any:
        return messages.pop() if messages else await receive()

    return replayed


def _with_headers(send: Send, added: Mapping[str, str]) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            missing = [(name.encode(), value.encode()) for name, value in added.items() if name.encode() not in present]
            message["headers"] = [*message["headers"], *missing]
        await send(message)

    return send_with_headers if added else send


async def _answer(send: Send, error: ApiError, value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    raw = [(name.lower().encode(), value.encode()) for name, value in (headers | error.headers).items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _too_large(limit: int) -> ApiError:
    return ApiError(413, "The body is too large.", wanted=f"at most {limit:,} bytes", code="body_too_large")
