"""Recognize addresses of network streams, and hide their secrets.

Only the scheme, host, port and path are shown; never a user, a password, a query or a fragment. Secrets
have too many names to list them.
"""

from __future__ import annotations

import re
import urllib.parse

NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https", "udp", "rtmp")

_ADDRESS_IN_TEXT = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://\S+")
_HIDDEN = "***"
# Control characters, and the surrogates that stand for bytes that are not UTF-8.
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def has_scheme(spec: str) -> bool:
    """Return whether a source is written as an address of any kind."""
    return _ADDRESS_IN_TEXT.match(spec) is not None


def is_network_address(spec: str) -> bool:
    """Return whether a source is the address of a network stream."""
    scheme, separator, _ = spec.partition("://")
    return bool(separator) and scheme.lower() in NETWORK_SCHEMES


def is_usable(address: str) -> bool:
    """Return whether an address has no control characters, and no bytes that are not UTF-8."""
    return _UNUSABLE.search(address) is None


def with_lower_scheme(address: str) -> str:
    """Return an address with its scheme in lower case, as FFmpeg requires."""
    scheme, separator, rest = address.partition("://")
    return scheme.lower() + separator + rest


def without_password(address: str) -> str:
    """Return the part of an address that may be shown: scheme, host, port and path.

    Some cameras take their password in the path (`rtsp://camera/user=admin&password=secret`), so a part of
    the path that sets a value is hidden as well.
    """
    scheme, _, rest = address.partition("://")
    rest, credentials = re.subn(r"^[^/?#]*@", "", rest)
    if not credentials and re.match(r"[^/?#:@]*:[^@]*@", rest):
        # A password may contain an unescaped / ? or #. If it begins with digits, it looks like a port and a
        # path with an @. A query may contain an @ as well. So this hides too much rather than too little.
        before_query = rest[: re.match(r"[^?/]*(?:/[^?#]*)?", rest).end()]  # type: ignore[union-attr]
        _, at, rest = before_query.rpartition("@")
        if not at:
            return f"{scheme}://{_HIDDEN}"
    place = re.split("[?#]", rest, maxsplit=1)[0]
    shown = (_HIDDEN if "=" in urllib.parse.unquote(part) else part for part in place.split("/"))
    return f"{scheme}://{'/'.join(shown)}"


def without_passwords(text: str) -> str:
    """Return a text with the secrets of every address in it hidden."""
    return _ADDRESS_IN_TEXT.sub(lambda found: without_password(found[0]), text)
