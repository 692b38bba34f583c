"""Running the server until it is told to stop."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import socket

import uvicorn
from starlette.types import ASGIApp

from neurodial.errors import ServingError
from neurodial.serve.engine import Engine

FINAL_SECONDS = 5.0
"""For the last words to reach the clients, after the grace."""


class Server(uvicorn.Server):
    """uvicorn, but an interrupt first closes the engine: running requests end in time, or are told why they don't."""

    def __init__(self, app: ASGIApp, engine: Engine, *, grace: float, access_log: bool = False) -> None:
        config = uvicorn.Config(
            app,
            log_level="info" if access_log else "warning",
            access_log=access_log,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=math.ceil(grace + FINAL_SECONDS),
        )
        super().__init__(config)
        self._engine, self._grace = engine, grace

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the engine, then the connections."""
        self._engine.close(grace=self._grace)
        await super().shutdown(sockets)
        await asyncio.to_thread(self._engine.wait_closed, FINAL_SECONDS)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        ServingError: the address is taken or not this machine's.
    """
    try:
        if not 0 <= port <= 65535:
            raise OverflowError("ports go from 0 to 65535")
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(256)
    except (OSError, OverflowError) as error:
        raise ServingError(
            f"The server can't listen on {host}, port {port}: {error}.",
            wanted="an address of this machine and a free port",
            fix="Choose another --port; 0 takes a free one.",
        ) from error
    return listening


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
        (True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
