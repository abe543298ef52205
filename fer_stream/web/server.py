"""Run the page's server in its own thread."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from fer_stream.system.background import Task
from fer_stream.web.hub import Hub

_MOST_CONNECTIONS = 64
_ACCEPTED_AT_ONCE = 16  # asyncio accepts this many before the first of them can be closed
_GRACE_S = 1  # time for readers to receive the end of the run, before stuck streams are cut off
_START_WITHIN_S, _STOP_WITHIN_S = 10.0, 3.0
ASK_WITHIN_S = 10.0  # a connection that has not sent its whole request within this time is closed


class Server:
    """Serves an application on an open socket until it is stopped.

    Args:
        app: The application.
        listening: The socket; closed by `stop`.
        hub: The hub, which is connected with the server's event loop.
    """

    def __init__(self, app: ASGIApp, listening: socket.socket, hub: Hub) -> None:
        self._hub = hub
        self._listening = listening
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                access_log=False,  # it would log the token
                log_config=None,
                log_level="critical",
                lifespan="off",
                loop="asyncio",
                http=_Connection,
                ws="none",
                server_header=False,
                proxy_headers=False,
                backlog=_ACCEPTED_AT_ONCE,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        self._serving: Task[None] | None = None

    def start(self) -> None:
        """Start serving, and return when readers can connect, after 10 s at the latest."""
        self._serving = Task(self._run)
        self._hub.loop_ready.wait(_START_WITHIN_S)

    def stop(self) -> None:
        """Stop serving. Open streams have `_GRACE_S` to end, and the thread has `_STOP_WITHIN_S`."""
        self._server.should_exit = True
        if self._serving is not None:
            self._serving.close(_STOP_WITHIN_S)
        self._listening.close()

    def _run(self) -> None:
        async def serve() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(_report_failure)
            self._hub.attach(loop)
            closing = asyncio.create_task(self._close_silent_connections())
            await self._server.serve(sockets=[self._listening])
            closing.cancel()

        asyncio.run(serve())

    async def _close_silent_connections(self) -> None:
        """Close connections that send no request, so that they do not keep others out.

        uvicorn limits the time between two requests of a connection, but not the time to send a request.
        """
        waiting: set[Any] = set()
        while True:
            await asyncio.sleep(ASK_WITHIN_S / 2)
            silent = {each for each in self._server.server_state.connections if _waits_for_request(each)}
            for connection in silent & waiting:
                connection.transport.close()
            waiting = silent


class _Connection(H11Protocol):
    """A connection that makes room if too many are open: the oldest one without a request is closed.

    That is the new one itself if all others get an answer. uvicorn's own limit only refuses the requests and
    keeps the sockets. Then anyone could use up the files that the process may open, and so end the run.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._made_s = time.monotonic()
        connections: list[Any] = [each for each in self.connections if not each.transport.is_closing()]
        if len(connections) > _most_connections():
            silent = [each for each in connections if _waits_for_request(each)]
            min(silent, key=lambda each: each._made_s).transport.abort()


def _most_connections() -> int:
    """Return how many connections may be open. Most of the files that may be open are left for the run."""
    most_files = os.sysconf("SC_OPEN_MAX") if hasattr(os, "sysconf") else -1
    return _MOST_CONNECTIONS if most_files < 0 else min(_MOST_CONNECTIONS, most_files // 8)


def _report_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report a failure in the event loop, except for a refused connection, which asyncio accepts later."""
    if not isinstance(context.get("exception"), OSError):
        loop.default_exception_handler(context)


def _waits_for_request(connection: Any) -> bool:
    """Return whether a uvicorn connection has no request in progress."""
    cycle = getattr(connection, "cycle", None)
    return cycle is None or cycle.response_complete
