"""Servers on loopback that play pictures and videos in real time, and stall, hang up or refuse on request."""

from __future__ import annotations

import base64
import functools
import itertools
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

import av
import cv2
import numpy as np

# The system's own Python, because it has GStreamer's bindings.
_SYSTEM_PYTHON = "/usr/bin/python3"
_RTSP_NEEDS = (
    "needs GStreamer's RTSP server (Debian: gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-bad)"
)


def grey_jpegs(count: int) -> list[bytes]:
    """Return grey pictures as JPEG. The brightness of each is its index."""
    return [
        cv2.imencode(".jpg", np.full((96, 128, 3), index, np.uint8))[1].tobytes() for index in range(count)
    ]


def video_jpegs(path: Path, count: int) -> list[bytes]:
    """Return the first pictures of a video as JPEG."""
    with av.open(str(path)) as container:
        frames = (frame.to_ndarray(format="bgr24") for frame in container.decode(video=0))
        return [cv2.imencode(".jpg", bgr)[1].tobytes() for bgr, _ in zip(frames, range(count), strict=False)]


def long_video(path: Path, target: Path, duration_s: float) -> Path:
    """Copy the packets of a video again and again until the target has the given length."""
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
    """A network camera that sends JPEG pictures over HTTP.

    Attributes:
        address: Address of the stream.
        logins: The `user:password` of each request.
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
                    return  # the client has left
                self._ended.wait(self._frame_s)
            if not self._repeat:
                return

    def stall(self) -> None:
        """Stop sending, but keep every connection open."""
        self._sending.clear()

    def go_on(self) -> None:
        """Send again, and accept new connections again."""
        self._sending.set()
        self._refusing = False

    def cut(self, *, refusing: bool = False) -> None:
        """End every connection. If `refusing`, refuse new ones until `go_on`."""
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
def _serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answer requests in threads, and join these at the end. Yield the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
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
def file_server(folder: Path, *, share: float = 1.0) -> Iterator[str]:
    """Serve a folder's files over HTTP, each cut off after a share of it. Yield the address."""

    class Handler(SimpleHTTPRequestHandler):
        def copyfile(self, source: BinaryIO, outputfile: BinaryIO) -> None:  # type: ignore[override]
            content = source.read()
            with suppress(OSError):  # the client has left
                outputfile.write(content[: round(share * len(content))])

        def log_message(self, *args: object) -> None:
            pass

    with _serving(functools.partial(Handler, directory=str(folder))) as address:
        yield address


@contextmanager
def answering_server(
    content: bytes, headers: Mapping[str, str], *, login: str = "", bounded: bool = True
) -> Iterator[tuple[str, list[str]]]:
    """Answer every request with the same content, and then hang up.

    Args:
        content: It is sent with the headers as given.
        headers: No other headers are sent.
        login: The `user:password` to ask for.
        bounded: Whether the content is sent once, rather than again and again until the client leaves.

    Yields:
        The address without a path, and the list of the requested paths, which grows.
    """
    asked: list[str] = []
    wanted = "Basic " + base64.b64encode(login.encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if login and self.headers.get("Authorization") != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.end_headers()
                return
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):  # the client has left
                self.wfile.write(content)
                while not bounded:
                    self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    with _serving(Handler) as address:
        yield address, asked


@contextmanager
def silent_server() -> Iterator[str]:
    """Accept every connection, but never answer. Yield the host and port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield "127.0.0.1:{}".format(*listener.getsockname()[1:])


@contextmanager
def stalling_server(content: bytes) -> Iterator[str]:
    """Send the content to every client, and then nothing, but keep the connection open. Yield the address."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):  # the client has left
                self.wfile.write(content)
            ended.wait()

        def log_message(self, *args: object) -> None:
            pass

    with _serving(Handler) as address:
        try:
            yield f"{address}/live.ts"
        finally:
            ended.set()


@contextmanager
def dripping_server() -> Iterator[str]:
    """Answer the first request with one byte of its headers every 50 ms. Yield the host and port."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            with suppress(OSError), listener.accept()[0] as client:
                for byte in itertools.cycle(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 9):
                    if stop.wait(0.05):
                        return
                    client.sendall(bytes([byte]))

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield "127.0.0.1:{}".format(*listener.getsockname()[1:])
        finally:
            stop.set()
            thread.join()


class NoRtspServerError(Exception):
    """GStreamer's RTSP server is missing."""


class RtspServer:
    """A process that plays a video over RTSP.

    Attributes:
        address: Address of the stream, without user and password. It stays the same after a restart.

    Raises:
        NoRtspServerError: GStreamer is missing.
    """

    def __init__(self, video: Path, *, login: tuple[str, str] | None = None) -> None:
        if sys.platform == "win32" or not Path(_SYSTEM_PYTHON).exists():
            raise NoRtspServerError(_RTSP_NEEDS)
        self._video = video
        self._login = login or ()
        self._port = 0
        self.start()

    def start(self, video: Path | None = None) -> None:
        """Start the server, at the same address as before if it was stopped; with another video if given."""
        self._video = video or self._video
        script = Path(__file__).with_name("rtsp_server.py")
        # Python's settings in the environment of the tests are not meant for the system's Python.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self._process = subprocess.Popen(
            [_SYSTEM_PYTHON, str(script), str(self._video), str(self._port), *self._login],
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
        """Suspend the process. Its connections stay open, but nothing comes."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the process and its connections."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
