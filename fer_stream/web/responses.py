"""Send long-lived responses: streams of the newest item, and files that may still grow."""

from __future__ import annotations

import asyncio
import mimetypes
import os
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

_BLOCK_BYTES = 1 << 18
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)  # no file is longer; int() refuses 4301 digits
# The browser shows these kinds itself. It saves all others, so that a report's scripts do not run here.
_VIEWED = ("image/jpeg", "image/png", "image/webp", "video/mp4", "video/webm", "video/x-matroska")
_VIEWER_POLICY = "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'"
_SAVED_POLICY = "sandbox; default-src 'none'"


class LiveResponse(Response):
    """A stream that ends when its generator ends or its reader leaves.

    When the reader leaves, the generator is closed at once, so that the reader no longer counts.
    """

    def __init__(self, chunks: AsyncGenerator[bytes, None], media_type: str) -> None:
        super().__init__(media_type=media_type)
        self._chunks = chunks
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream. See ASGI."""

        async def stream() -> None:
            async with aclosing(self._chunks) as chunks:
                await send(
                    {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
                )
                async for chunk in chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})

        async def wait_for_disconnect() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        tasks = [asyncio.create_task(stream()), asyncio.create_task(wait_for_disconnect())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def file_response(request: Request, path: Path) -> Response:
    """Return a response with a file at its current length, or with the part that the request asks for.

    Args:
        request: The request. Video players ask for parts.
        path: The file, which may still grow.
    """
    try:
        file = path.open("rb")
    except OSError:
        return PlainTextResponse("The file is gone.\n", 404)
    size = os.fstat(file.fileno()).st_size
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    viewed = kind in _VIEWED
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"{'inline' if viewed else 'attachment'}; "
        f"filename*=UTF-8''{quote(os.fsencode(path.name), safe='')}",
        "Content-Security-Policy": _VIEWER_POLICY if viewed else _SAVED_POLICY,
    }
    start, end, status = 0, size, 200
    requested = _RANGE.fullmatch(request.headers.get("range", ""))
    if requested and (requested[1] or requested[2]):
        start = int(requested[1]) if requested[1] else max(0, size - int(requested[2]))
        end = min(size, int(requested[2]) + 1) if requested[1] and requested[2] else size
        if start >= end:
            file.close()
            return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    return _FileResponse(file, start, end, status, headers, kind)


class _FileResponse(StreamingResponse):
    """A part of an open file. The file is closed even if the reader leaves before the first block."""

    def __init__(
        self, file: BinaryIO, start: int, end: int, status: int, headers: dict[str, str], kind: str
    ) -> None:
        super().__init__(_blocks(file, start, end), status, headers, media_type=kind)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


async def _blocks(file: BinaryIO, start: int, end: int) -> AsyncGenerator[bytes, None]:
    file.seek(start)
    while start < end:
        block = await asyncio.to_thread(file.read, min(_BLOCK_BYTES, end - start))
        if not block:  # the file has shrunk; the reader notices, because the response ends early
            return
        start += len(block)
        yield block
