"""Check an HLS playlist before FFmpeg opens it.

FFmpeg follows a master playlist that names itself, directly or through another one, thousands of times a
second. RFC 8216 allows a master playlist to name media playlists only.
"""

from __future__ import annotations

import contextlib
import itertools
import urllib.parse

from fer_stream.sources.web import UNREADABLE, request

_TIMEOUT_S = 5
_MOST_BYTES = 2**20
_MOST_VARIANTS = 50


def is_endless(address: str) -> bool:
    """Return whether the playlists that a playlist names name further playlists.

    Args:
        address: http or https, with its user and password.

    Returns:
        False if the playlist can't be read: FFmpeg then reports what is wrong.
    """
    return any(_variants(variant) for variant in _variants(address)[:_MOST_VARIANTS])


def _variants(address: str) -> list[str]:
    """Return the addresses of the playlists that a master playlist names; empty for a media playlist."""
    text = ""
    with contextlib.suppress(*UNREADABLE), request(address, _TIMEOUT_S) as reply:
        text = reply.read(_MOST_BYTES).decode("utf-8", "replace")
        address = reply.url
    lines = [line.strip() for line in text.splitlines()]
    return [
        urllib.parse.urljoin(address, following)
        for line, following in itertools.pairwise(lines)
        if line.startswith("#EXT-X-STREAM-INF") and following and not following.startswith("#")
    ]
