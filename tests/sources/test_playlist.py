"""Playlists that never end are refused after a few requests."""

from __future__ import annotations

import pytest

from fer_stream.errors import SourceError
from fer_stream.sources import open_source
from fer_stream.sources.playlist import is_endless


@pytest.mark.parametrize("name", ["self.m3u8", "circle.m3u8"])
def test_a_playlist_that_never_ends_is_one_line_and_few_requests(
    playlists: tuple[str, list[str]], name: str
) -> None:
    address, asked = playlists
    with pytest.raises(SourceError, match="never ends"):
        open_source(f"{address}/{name}".replace("http", "HTTP"))
    assert len(asked) < 10


def test_an_ordinary_playlist_is_not_refused(playlists: tuple[str, list[str]]) -> None:
    address, _ = playlists
    assert not is_endless(f"{address}/good.m3u8")
    assert not is_endless(f"{address}/media.m3u8")
    assert not is_endless(f"{address}/missing.m3u8")
