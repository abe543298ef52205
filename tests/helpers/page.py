"""A live page that is fed with made-up frames, and requests to it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from fer_stream.sources import SourceKind, SourceStatus
from fer_stream.status import RunStatus
from fer_stream.web.page import PageSink
from helpers.contexts import make_context, make_info
from helpers.faces import make_face, make_frame

LABELS = ("happy", "sad", "surprise", "neutral", "unsure", "fear", "angry", "disgust")


class FedPage:
    """A page that gets frames in its own thread, as from the pipeline, until it is told to end.

    Each picture has a single colour, which changes from frame to frame. Each face shows one expression.
    """

    def __init__(
        self,
        folder: Path,
        *,
        faces: int = 2,
        live: bool = True,
        port: int = 0,
        rate: float = 30.0,
        size_wh=(64, 48),
    ) -> None:
        kind = SourceKind.CAMERA if live else SourceKind.VIDEO
        self.info = make_info(
            name="made-up.mp4",
            kind=kind,
            path=None,
            size_wh=size_wh,
            frame_rate=Fraction(30),
            duration_s=60.0,
        )
        self.status = RunStatus(device="cpu")
        self.files: list[Path] = []
        self.face_ids = range(1, faces + 1)
        self.rate, self.size_wh = rate, size_wh
        self.written = self.drawn = 0
        self.thread_id = 0
        self.silent = False
        self._ended = threading.Event()
        self.sink = PageSink(self.info, "127.0.0.1", port, status=self.status, folder=folder)
        self._thread = threading.Thread(target=self._feed)

    @property
    def base(self) -> str:
        return self.sink.address.partition("/?")[0]

    @property
    def host(self) -> str:
        return urlsplit(self.base).netloc

    @property
    def port(self) -> int:
        return urlsplit(self.base).port or 0

    @property
    def token(self) -> str:
        return parse_qs(urlsplit(self.sink.address).query)["token"][0]

    def _feed(self) -> None:
        self.thread_id = threading.get_ident()
        context = make_context(
            self.info, status=self.status, written_files=lambda: [*self.files, *self.sink.outputs()]
        )
        self.sink.begin(context)
        while not self._ended.is_set() and not self.sink.stop_requested:
            if self.silent:
                self.status.source = SourceStatus(
                    False, 1, 5.0, "reconnecting, attempt 1, no picture for 5 s"
                )
                self.sink.idle()
                time.sleep(0.03)
                continue
            self.status.source = SourceStatus()
            self._feed_one()
            time.sleep(1 / self.rate)
        self.sink.close()

    def _feed_one(self) -> None:
        index = self.written
        bgr = np.full((*self.size_wh[::-1], 3), 40 + 5 * (index % 40), np.uint8)
        faces = [
            make_face(face_id, LABELS[(face_id - 1) % len(LABELS)], 0.5 + 0.4 * (index % 60) / 60)
            for face_id in self.face_ids
        ]
        analyzed = make_frame(index, index / 30, *faces, bgr=bgr)
        image_bgr = bgr if self.sink.needs_image(analyzed) else None
        self.drawn += image_bgr is not None
        self.status.recordings = tuple(self.sink.recordings())
        self.sink.write(analyzed, image_bgr)
        self.status.frame_done(analyzed.frame.time_s, 0.012)
        self.written += 1

    def __enter__(self) -> FedPage:
        self.sink.__enter__()
        self._thread.start()
        return self

    def end(self) -> None:
        """End the run, and wait until the page is closed."""
        self._ended.set()
        self._thread.join()

    def __exit__(self, *_: object) -> None:
        self.end()

    # Requests

    @contextmanager
    def request(
        self, path: str, *, method: str = "GET", token: str | None = "", **headers: str
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request, with the page's token unless another token or None is given."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.token}"
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, headers=names)
            yield connection.getresponse()
        finally:
            connection.close()

    def get(self, path: str, **arguments: Any) -> tuple[int, bytes]:
        with self.request(path, **arguments) as answer:
            return answer.status, answer.read()

    def post(self, path: str, **arguments: Any) -> tuple[int, dict]:
        with self.request(path, method="POST", **arguments) as answer:
            return answer.status, json.loads(answer.read())


def server_sent(answer: http.client.HTTPResponse, event: str = "message") -> Iterator[dict]:
    """Yield the objects of one kind from a stream of server-sent events."""
    kind = "message"
    for line in answer:
        if line.startswith(b"event: "):
            kind = line[len(b"event: ") :].decode().strip()
        elif line.startswith(b"data: ") and kind == event:
            yield json.loads(line[len(b"data: ") :])
        elif not line.strip():
            kind = "message"


def parts(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the pictures of an MJPEG stream."""
    while line := answer.readline():
        if line.lower().startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
            assert answer.readline() == b"\r\n"
            yield answer.read(length)
