"""Running the server until it is told to stop."""

from __future__ import annotations

import asyncio
import math
import socket

import uvicorn
from starlette.types import ASGIApp

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
