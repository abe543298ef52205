"""Servers on loopback that play pictures and videos in real time, and stall, cut off or refuse when told."""

from __future__ import annotations

import base64
import functools
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

import av
import cv2
import numpy as np

# The system's own Python: GStreamer's bindings come with the system, not with pip.
_SYSTEM_PYTHON = "/usr/bin/python3"
_RTSP_NEEDS = (
    "needs GStreamer's RTSP server (Debian: gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-bad)"
)


def grey_jpegs(count: int) -> list[bytes]:
    """Return pictures, each as bright as its index."""
    return [
        cv2.imencode(".jpg", np.full((96, 128, 3), index, np.uint8))[1].tobytes() for index in range(count)
    ]


def video_jpegs(path: Path, count: int) -> list[bytes]:
    """Return the first pictures of a video."""
    with av.open(str(path)) as container:
        frames = (frame.to_ndarray(format="bgr24") for frame in container.decode(video=0))
        return [cv2.imencode(".jpg", bgr)[1].tobytes() for bgr, _ in zip(frames, range(count), strict=False)]


def long_video(path: Path, target: Path, duration_s: float) -> Path:
    """Write a video over and over, its packets as they are, until it is as long as wanted."""
    with av.open(str(path)) as source, av.open(str(target), "w") as output:
        given = source.streams.video[0]
        stream = output.add_stream_from_template(given)
        packets = [packet for packet in source.demux(given) if packet.dts is not None]
        length = round(len(packets) / given.average_rate / given.time_base)
        for turn in range(math.ceil(duration_s / (length * given.time_base))):
            for packet in packets:
                copy = av.Packet(bytes(packet))
                copy.pts, copy.dts = packet.pts + turn * length, packet.dts + turn * length
                copy.time_base, copy.is_keyframe, copy.stream = given.time_base, packet.is_keyframe, stream
                output.mux(copy)
    return target


class MjpegServer:
    """A network camera: sends JPEG after JPEG over HTTP to whoever asks.

    Attributes:
        address: Where it answers.
        logins: The `user:password` that each request came with.
    """

    def __init__(
        self, jpegs: Sequence[bytes], *, frame_s: float, repeat: bool = True, login: str = ""
    ) -> None:
        self._jpegs, self._frame_s, self._repeat = jpegs, frame_s, repeat
        self._login = login
        self._ended = threading.Event()
        self._sending = threading.Event()
        self._sending.set()
        self._cuts = 0
        self._refusing = False
        self.logins: list[str] = []
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera._answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # so that closing joins them
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_port}/live"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        login = request.headers.get("Authorization", "Basic ").removeprefix("Basic ")
        self.logins.append(base64.b64decode(login).decode())
        if self.logins[-1] != self._login:
            request.send_response(401)
            request.send_header("WWW-Authenticate", 'Basic realm="camera"')
            request.end_headers()
            return
        if self._refusing:
            request.send_error(503)
            return
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        request.end_headers()
        cuts = self._cuts
        while True:
            for jpeg in self._jpegs:
                while not self._sending.wait(0.02):
                    if self._ended.is_set() or cuts != self._cuts:
                        return
                if self._ended.is_set() or cuts != self._cuts:
                    return
                head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                try:
                    request.wfile.write(head.encode() + jpeg + b"\r\n")
                except OSError:
                    return  # the reader has left
                self._ended.wait(self._frame_s)
            if not self._repeat:
                return

    def stall(self) -> None:
        """Send nothing any more, and keeps every connection open."""
        self._sending.clear()

    def go_on(self) -> None:
        """Send again, and lets everybody in."""
        self._sending.set()
        self._refusing = False

    def cut(self, *, refusing: bool = False) -> None:
        """End every connection; refuses new ones until told to go on, if asked to."""
        self._refusing = refusing
        self._cuts += 1

    def close(self) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> MjpegServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def file_server(folder: Path, *, share: float = 1.0) -> Iterator[str]:
    """Serve a folder's files over HTTP, each broken off after a share of it; yields the address."""

    class Handler(SimpleHTTPRequestHandler):
        def copyfile(self, source: BinaryIO, outputfile: BinaryIO) -> None:  # type: ignore[override]
            content = source.read()
            with suppress(OSError):  # the reader has left
                outputfile.write(content[: round(share * len(content))])

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    server.daemon_threads = False  # so that closing joins them
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def silent_server() -> Iterator[str]:
    """A device that takes every connection and never says a word; yields its host and port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield "127.0.0.1:{}".format(*listener.getsockname()[1:])


class NoRtspServerError(Exception):
    """There is no GStreamer to make an RTSP server of."""


class RtspServer:
    """A process that plays a video over RTSP.

    Attributes:
        address: Where it answers, without user and password; the same after a restart.

    Raises:
        NoRtspServerError: GStreamer is missing.
    """

    def __init__(self, video: Path, *, login: tuple[str, str] | None = None) -> None:
        if sys.platform == "win32" or not Path(_SYSTEM_PYTHON).exists():
            raise NoRtspServerError(_RTSP_NEEDS)
        self._arguments = [_SYSTEM_PYTHON, str(Path(__file__).with_name("rtsp_server.py")), str(video)]
        self._login = login or ()
        self._port = 0
        self.start()

    def start(self) -> None:
        """Start playing, again at the same address if it was stopped."""
        # Python's own settings of the tests' environment are not for the system's Python.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self._process = subprocess.Popen(
            [*self._arguments, str(self._port), *self._login],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        if not self.address:
            self.stop()
            raise NoRtspServerError(_RTSP_NEEDS)
        self._port = int(self.address.rsplit(":", 1)[1].split("/")[0])

    def stall(self) -> None:
        """Hold the process: its connections stay open, and nothing comes."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the process and with it every connection."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
