"""Runs the page's server in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading

import uvicorn
from starlette.types import ASGIApp

from fer_stream.web.hub import Hub

_MOST_CONNECTIONS = 64
_LAST_WORDS_S = 1  # for readers to get the end of the run; streams that are stuck are cut off then
_STOP_WITHIN_S = 3.0


class Server:
    """Serves an application on an open socket until it is stopped.

    Args:
        app: The application.
        listening: The socket; closed by `stop`.
        hub: Connected with the server's event loop.
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
                http="h11",
                ws="none",
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=_LAST_WORDS_S,
            )
        )
        self._thread = threading.Thread(target=self._run, name="fer-stream-web", daemon=True)

    def start(self) -> None:
        """Start serving; returns when requests can come."""
        self._thread.start()
        self._hub.loop_ready.wait(10)

    def stop(self) -> None:
        """Stop serving, without waiting for open streams for longer than a second."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(_STOP_WITHIN_S)
        self._listening.close()

    def _run(self) -> None:
        async def serve() -> None:
            self._hub.attach(asyncio.get_running_loop())
            await self._server.serve(sockets=[self._listening])

        asyncio.run(serve())
