"""Fixtures for the sources: fake cameras, short timeouts, playlists, and a check for threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import pytest
from helpers.fake_camera import FakeVideoCapture
from helpers.timeouts import set_timeouts
from helpers.waiting import wait_until

from fer_stream.sources import cameras, live


@pytest.fixture
def threads_end() -> Iterator[None]:
    """Fail the test if a thread that it started does not end soon. FFmpeg needs seconds to close a stream."""
    before = threading.active_count()
    yield
    wait_until(lambda: threading.active_count() == before)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make streams time out and reconnect faster than a user would want."""
    monkeypatch.setattr(live, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(live, "LONGEST_PAUSE_S", 0.08)
    set_timeouts(monkeypatch, open_ms=2000, read_ms=400)


@pytest.fixture
def portrait(shared_data: Path) -> Path:
    return shared_data / "videos" / "portrait-360p.mp4"


@pytest.fixture
def fake_camera(monkeypatch: pytest.MonkeyPatch) -> type[FakeVideoCapture]:
    """Make OpenCV open a fake camera. Its class records what it was asked for."""

    class Fake(FakeVideoCapture):
        pass

    Fake.log = []
    monkeypatch.setattr(cv2, "VideoCapture", Fake)
    monkeypatch.setattr(cameras, "_check_linux_camera", lambda index: None)
    return Fake


@pytest.fixture
def playlists() -> Iterator[tuple[str, list[str]]]:
    """Serve playlists, some of which name master playlists. The list grows with every requested path."""
    master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n"
    media = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n"
    contents = {
        "/self.m3u8": master.format("self.m3u8"),
        "/circle.m3u8": master.format("/back.m3u8"),
        "/back.m3u8": master.format("circle.m3u8"),
        "/deep.m3u8": master.format("good.m3u8"),
        "/good.m3u8": master.format("media.m3u8"),
        "/media.m3u8": media,
    }
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            content = contents.get(self.path, "").encode()
            self.send_response(200 if content else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()
