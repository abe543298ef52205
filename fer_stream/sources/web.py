"""Ask an http or https address what it serves, before FFmpeg opens it.

OpenCV's FFmpeg does not tell a picture or a file from a live stream that ended.
"""

from __future__ import annotations

import string
import time
import urllib.error
import urllib.parse
import urllib.request
from enum import StrEnum
from http.client import HTTPException, HTTPResponse

from fer_stream.errors import SourceError
from fer_stream.sources.addresses import with_lower_scheme, without_password
from fer_stream.sources.heif import is_still
from fer_stream.sources.lists import is_list
from fer_stream.version import __version__

TIMEOUT_S = 10.0  # for each wait; as long as a stream may take to open
ANSWER_LIMIT_S = 2 * TIMEOUT_S  # for all waits together, because a host may send one byte at a time
_HEAD_BYTES = 1024
# The first bytes of pictures: JPEG, PNG, BMP, TIFF. For WebP and AVIF see `_is_picture`.
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*")

# What `request` and its reply raise.
UNREADABLE = (OSError, HTTPException, ValueError)


class Served(StrEnum):
    """What an address serves."""

    PICTURE = "picture"
    PLAYLIST = "playlist"
    FILE = "file"  # a recording, which ends
    STREAM = "stream"  # may never end, or could not be identified


def is_web_address(spec: str) -> bool:
    """Return whether a source is an http or https address."""
    return spec.lower().startswith(("http://", "https://"))


def request(address: str, timeout_s: float) -> HTTPResponse:
    """Request an address. A user and a password in it are sent only if its host asks for them.

    Args:
        address: http or https, with its user and password.
        timeout_s: Longest time to wait for the host, each time.

    Returns:
        The reply, which the caller closes.

    Raises:
        OSError: The host does not answer, or refuses.
        HTTPException, ValueError: The address or the reply can't be understood.
    """
    if not is_web_address(address):  # a playlist may name a local file
        raise ValueError("not an http or https address")
    parts = urllib.parse.urlsplit(with_lower_scheme(address))
    place = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    # As FFmpeg does. urllib refuses spaces and letters outside ASCII, and decodes the host again.
    place = urllib.parse.quote(place, safe=string.punctuation)
    logins = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if parts.username is not None:
        user, password = map(urllib.parse.unquote, (parts.username, parts.password or ""))
        logins.add_password(None, urllib.parse.urljoin(place, "/"), user, password)
    opener = urllib.request.build_opener(
        _OnlyToTheWeb(),
        urllib.request.HTTPBasicAuthHandler(logins),
        urllib.request.HTTPDigestAuthHandler(logins),
    )
    opener.addheaders = [("User-Agent", f"fer-stream/{__version__}")]  # many hosts refuse Python's own
    reply: HTTPResponse = opener.open(place, timeout=timeout_s)
    return reply


def stated_bytes(reply: HTTPResponse) -> int | None:
    """Return the length of a reply's content in bytes; None if the reply does not state it."""
    text = reply.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def beginning_of(reply: HTTPResponse, most_bytes: int, until_s: float) -> bytes:
    """Return the beginning of a reply's content, or as much of it as arrives in time.

    Args:
        reply: The reply from `request`.
        most_bytes: Number of bytes to read.
        until_s: `time.monotonic()` after which nothing more is read, because a host may send one byte at a
            time.

    Raises:
        OSError, HTTPException: The reply breaks off.
    """
    head = b""
    while len(head) < most_bytes and time.monotonic() < until_s:
        more = reply.read1(most_bytes - len(head))
        if not more:
            break
        head += more
    return head


def served_at(address: str) -> Served:
    """Return what an http or https address serves. Reads the beginning of its content only.

    Raises:
        SourceError: The host does not answer in time.
    """
    try:
        with request(address, TIMEOUT_S) as reply:
            kind = reply.headers.get_content_type()
            if kind.startswith("multipart/"):  # MJPEG; some cameras state a huge length
                return Served.STREAM
            head = beginning_of(reply, _HEAD_BYTES, time.monotonic() + TIMEOUT_S)
            has_end = stated_bytes(reply) is not None
    except UNREADABLE as error:
        if isinstance(getattr(error, "reason", error), TimeoutError):
            raise does_not_answer(address) from error
        return Served.STREAM  # FFmpeg may understand it, or reports what is wrong
    if is_list(head):
        return Served.PLAYLIST
    # A JPEG of unknown length may be the start of an MJPEG stream, unless its type says that it is a picture.
    if _is_picture(head) and (kind.startswith("image/") or (has_end and not kind.startswith("video/"))):
        return Served.PICTURE
    return Served.FILE if has_end else Served.STREAM


def does_not_answer(address: str) -> SourceError:
    """Return the error for a host that does not answer in time."""
    return SourceError(f"{without_password(address)} can't be opened: it does not answer")


class _OnlyToTheWeb(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https addresses only."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if not is_web_address(newurl):
            raise urllib.error.HTTPError(newurl, code, "redirected to another protocol", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_picture(head: bytes) -> bool:
    return head.startswith(_SIGNATURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or is_still(head)
