"""Check an HLS playlist before FFmpeg opens it.

FFmpeg follows a master playlist that names itself, directly or through another one, thousands of times a
second. RFC 8216 allows a master playlist to name media playlists only.
"""

from __future__ import annotations

import contextlib
import itertools
import time
import urllib.parse

from fer_stream.sources.web import UNREADABLE, beginning_of, request

_TIMEOUT_S = 5.0  # for each wait
_LIMIT_S = 10.0  # for all playlists together; as long as a stream may take to open
_MOST_BYTES = 2**20
_MOST_VARIANTS = 50


def names_master_playlists(address: str) -> bool:
    """Return whether a playlist names playlists that name playlists themselves.

    Args:
        address: http or https, with its user and password.

    Returns:
        False if the playlist can't be read in time: FFmpeg then reports the error.
    """
    until_s = time.monotonic() + _LIMIT_S
    return any(_variants(variant, until_s) for variant in _variants(address, until_s)[:_MOST_VARIANTS])


def _variants(address: str, until_s: float) -> list[str]:
    """Return the addresses of the playlists that a master playlist names.

    Args:
        address: The playlist.
        until_s: `time.monotonic()` after which nothing more is read.

    Returns:
        Empty for a media playlist, and for one that can't be read in time.
    """
    text = ""
    left_s = until_s - time.monotonic()
    if left_s <= 0:
        return []
    with contextlib.suppress(*UNREADABLE), request(address, min(_TIMEOUT_S, left_s)) as reply:
        text = beginning_of(reply, _MOST_BYTES, until_s).decode("utf-8", "replace")
        address = reply.url
    lines = [line.strip() for line in text.splitlines()]
    return [
        urllib.parse.urljoin(address, following)
        for line, following in itertools.pairwise(lines)
        if line.startswith("#EXT-X-STREAM-INF") and following and not following.startswith("#")
    ]
