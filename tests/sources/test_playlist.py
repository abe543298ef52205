"""Playlists that never end are refused after a few requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fer_stream.errors import SourceError
from fer_stream.sources import open_source
from fer_stream.sources.playlist import is_endless

MASTER = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n"
MEDIA = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n"
PLAYLISTS = {
    "/self.m3u8": MASTER.format("self.m3u8"),
    "/circle.m3u8": MASTER.format("/back.m3u8"),
    "/back.m3u8": MASTER.format("circle.m3u8"),
    "/good.m3u8": MASTER.format("media.m3u8"),
    "/media.m3u8": MEDIA,
}


@pytest.fixture
def served() -> Iterator[tuple[str, list[str]]]:
    """Serve the playlists. The list grows with every requested path."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            content = PLAYLISTS.get(self.path, "").encode()
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


@pytest.mark.parametrize("name", ["self.m3u8", "circle.m3u8"])
def test_a_playlist_without_an_end_is_one_line_and_few_requests(
    served: tuple[str, list[str]], name: str
) -> None:
    address, asked = served
    with pytest.raises(SourceError, match="never ends"):
        open_source(f"{address}/{name}".replace("http", "HTTP"))
    assert len(asked) < 10


def test_an_ordinary_playlist_is_not_refused(served: tuple[str, list[str]]) -> None:
    address, _ = served
    assert not is_endless(f"{address}/good.m3u8")
    assert not is_endless(f"{address}/media.m3u8")
    assert not is_endless(f"{address}/missing.m3u8")
