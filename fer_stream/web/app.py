"""Answer the page's requests: static files, live streams, stills, actions, and the files of the run."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from fer_stream.rendering.html import palette_css, static_text, uplot_script
from fer_stream.web.history import History
from fer_stream.web.hub import Hub, merged
from fer_stream.web.responses import LiveResponse, file_response

STREAM_WIDTH = 1280  # px; a wider picture is sent at this width
_STREAM_QUALITY, _STILL_QUALITY = 80, 92
_STILL_WAIT_S = 3.0
_ACTION_WAIT_S = 10.0
_BOUNDARY = "fer-stream-frame"
ACTIONS = ("still", "record", "stop")


@dataclass(frozen=True)
class RunAccess:
    """Access to the run, for the page's requests.

    Attributes:
        hub: The live channels.
        history: The readings so far.
        ask: Passes an action, one of `ACTIONS`, to the pipeline's thread. The result is a line for the user.
        file: Returns a file of the run by its number; None if no file has that number.
    """

    hub: Hub
    history: History
    ask: Callable[[str], Future[str]]
    file: Callable[[int], Path | None]


def make_app(run: RunAccess) -> Starlette:
    """Return the application. It does not include the checks of `guard`."""
    requests = _Requests(run)
    return Starlette(
        routes=[
            Route("/", _page),
            Route("/healthz", _health),
            Route("/stream.mjpg", requests.stream),
            Route("/events", requests.events),
            Route("/live", requests.live),
            Route("/still.jpg", requests.still),
            Route("/history", requests.history),
            Route("/actions/{name}", requests.act, methods=["POST"]),
            Route("/files/{number}", requests.file),
            *(Route(f"/static/{name}", _static(text, kind)) for name, text, kind in _static_files()),
        ]
    )


async def _page(request: Request) -> Response:
    if "token" in request.query_params:
        # The cookie holds the token now, and the browser's history must not.
        return RedirectResponse("/", 303)
    return Response(static_text("static/index.html", __package__), media_type="text/html")


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


class _Requests:
    """Answers the requests that concern the run."""

    def __init__(self, run: RunAccess) -> None:
        self._run, self._hub = run, run.hub
        self._encoder = _Encoder()

    async def stream(self, _request: Request) -> Response:
        """Send the annotated pictures, one after the other."""
        return LiveResponse(self._jpegs(), f"multipart/x-mixed-replace; boundary={_BOUNDARY}")

    async def events(self, _request: Request) -> Response:
        """Send an object for each frame."""
        return LiveResponse(_server_sent(self._hub.frames.items()), "text/event-stream")

    async def live(self, _request: Request) -> Response:
        """Send everything in one stream.

        Browsers open at most six connections to a server, for all pages together.
        """
        items = merged({"status": self._hub.status, "frame": self._hub.frames}, include_current=True)
        return LiveResponse(_named_events(items), "text/event-stream")

    async def still(self, _request: Request) -> Response:
        """Send the next picture, or the newest one if no other comes."""
        try:
            image_bgr = await asyncio.wait_for(self._next_image(), _STILL_WAIT_S)
        except TimeoutError:
            image_bgr = self._hub.images.newest
        if image_bgr is None:
            return PlainTextResponse("There is no picture yet.\n", 503, {"Retry-After": "1"})
        return Response(await asyncio.to_thread(_encode, image_bgr, _STILL_QUALITY), media_type="image/jpeg")

    async def history(self, _request: Request) -> Response:
        """Send the readings so far."""
        return JSONResponse(await asyncio.to_thread(self._run.history.as_dict))

    async def act(self, request: Request) -> Response:
        """Pass an action on, and send the line that answers it."""
        name = request.path_params["name"]
        if name not in ACTIONS:
            return PlainTextResponse("There is no such action.\n", 404)
        try:
            message = await asyncio.wait_for(asyncio.wrap_future(self._run.ask(name)), _ACTION_WAIT_S)
        except TimeoutError:
            return JSONResponse({"message": "no answer yet: the source sends no pictures"}, 503)
        return JSONResponse({"message": message})

    async def file(self, request: Request) -> Response:
        """Send a file of the run."""
        number = request.path_params["number"]
        path = self._run.file(int(number)) if re.fullmatch("[0-9]{1,9}", number) else None
        if path is None:
            return PlainTextResponse("There is no such file.\n", 404)
        return file_response(request, path)

    async def _jpegs(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._hub.images.items(include_current=True)) as images:
            async for image_bgr in images:
                jpeg = await self._encoder.jpeg(image_bgr)
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                yield head.encode() + jpeg + b"\r\n"
        yield f"--{_BOUNDARY}--\r\n".encode()

    async def _next_image(self) -> np.ndarray | None:
        async with aclosing(self._hub.images.items()) as images:
            async for image_bgr in images:
                return image_bgr
        return self._hub.images.newest


class _Encoder:
    """Encodes each picture only once for all readers, outside the event loop."""

    def __init__(self) -> None:
        self._image_bgr: np.ndarray | None = None
        self._jpeg: asyncio.Future[bytes] | None = None

    async def jpeg(self, image_bgr: np.ndarray) -> bytes:
        if self._jpeg is None or self._image_bgr is not image_bgr:
            self._image_bgr = image_bgr
            loop = asyncio.get_running_loop()
            self._jpeg = loop.run_in_executor(None, _encode, image_bgr, _STREAM_QUALITY, STREAM_WIDTH)
        # A reader that leaves must not cancel the picture for the others.
        return await asyncio.shield(self._jpeg)


def _encode(image_bgr: np.ndarray, quality: int, most_width: int | None = None) -> bytes:
    height, width = image_bgr.shape[:2]
    if most_width is not None and width > most_width:
        size_wh = (most_width, max(1, round(height * most_width / width)))
        image_bgr = cv2.resize(image_bgr, size_wh, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


async def _server_sent(items: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(items):
        async for item in items:
            yield b"data: " + item + b"\n\n"


async def _named_events(items: AsyncGenerator[tuple[str, bytes], None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(items):
        async for name, item in items:
            yield b"event: " + name.encode() + b"\ndata: " + item + b"\n\n"


def _static_files() -> list[tuple[str, str, str]]:
    """Return the name, the content and the media type of each static file."""
    theme = palette_css() + static_text("theme.css", "fer_stream.rendering.html")
    return [
        ("theme.css", theme, "text/css"),
        ("uPlot.css", static_text("uPlot.min.css", "fer_stream.rendering.html"), "text/css"),
        ("uPlot.js", uplot_script(), "text/javascript"),
        ("shared.js", static_text("shared.js", "fer_stream.rendering.html"), "text/javascript"),
        ("page.css", static_text("static/page.css", __package__), "text/css"),
        *(
            (name, static_text(f"static/{name}", __package__), "text/javascript")
            for name in ("page.js", "chart.js", "cards.js")
        ),
    ]


def _static(text: str, kind: str) -> Callable[[Request], object]:
    async def answer(_request: Request) -> Response:
        return Response(text, media_type=kind)

    return answer


def to_json(content: object) -> bytes:
    """Return JSON on one line, as server-sent events need it."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
