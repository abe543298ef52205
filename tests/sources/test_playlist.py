"""Playlists that name master playlists, such as themselves, are refused after a few requests."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fer_stream.errors import SourceError
from fer_stream.sources import open_source, playlist
from fer_stream.sources.playlist import names_master_playlists


@pytest.mark.parametrize("name", ["self.m3u8", "circle.m3u8", "deep.m3u8"])
def test_a_playlist_of_master_playlists_is_one_line_and_few_requests(
    playlists: tuple[str, list[str]], name: str
) -> None:
    address, asked = playlists
    with pytest.raises(SourceError, match="playlist of playlists of playlists"):
        open_source(f"{address}/{name}".replace("http", "HTTP"))
    assert len(asked) < 10


def test_an_ordinary_playlist_is_not_refused(playlists: tuple[str, list[str]]) -> None:
    address, _ = playlists
    assert not names_master_playlists(f"{address}/good.m3u8")
    assert not names_master_playlists(f"{address}/media.m3u8")
    assert not names_master_playlists(f"{address}/missing.m3u8")


def test_playlists_that_arrive_slowly_are_left_to_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"#EXTM3U\n" + b"#EXT-X-STREAM-INF:BANDWIDTH=1\nslow.m3u8\n" * 20)
            while not ended.wait(0.05):
                self.wfile.write(b"#")

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(playlist, "_LIMIT_S", 0.3)
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # the reader hangs up
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        began_s = time.monotonic()
        try:
            assert not names_master_playlists(f"http://127.0.0.1:{server.server_port}/slow.m3u8")
            assert time.monotonic() - began_s < 5
        finally:
            ended.set()
            server.shutdown()
            thread.join()
