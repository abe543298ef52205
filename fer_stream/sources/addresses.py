"""Addresses of network streams, and how they are shown: never with a password."""

from __future__ import annotations

import re

NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https", "udp", "rtmp")

# Names of query parameters that hold a secret; `pas` covers password, passwd, passphrase and loginpas.
_SECRET_NAME = r"(?:[\w.-]*(?:pas|pwd|token|secret|key|auth|sig|cred|session)[\w.-]*|pw|p|psw|pin|sid)"
# Some cameras take them in the path: rtsp://camera/user=admin&password=secret&channel=1
_SECRET = re.compile(rf"(?i)(?<![a-z0-9])({_SECRET_NAME})=[^&;#\s]*")
_ADDRESS_IN_TEXT = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://\S+")


def has_scheme(spec: str) -> bool:
    """Returns whether a source is written as an address, of whatever kind."""
    return _ADDRESS_IN_TEXT.match(spec) is not None


def is_network_address(spec: str) -> bool:
    """Returns whether a source is the address of a network stream."""
    scheme, separator, _ = spec.partition("://")
    return bool(separator) and scheme.lower() in NETWORK_SCHEMES


def without_password(address: str) -> str:
    """Returns an address as it may be shown: no user, no password, no secret in its path or query."""
    scheme, _, rest = address.partition("://")
    rest = re.sub(r"^[^/?#]*@", "", rest)
    # A password may have an unescaped / ? or #. Where it begins with digits it looks like a port and a path
    # with an @ in it: then rather too much is hidden.
    rest = re.sub(r"^[^/?#:@]*:.*@", "", rest)
    return f"{scheme}://{without_secrets(rest)}"


def without_secrets(text: str) -> str:
    """Returns a path or a query with what its parameters keep secret left out."""
    return _SECRET.sub(r"\1=***", text)


def without_passwords(text: str) -> str:
    """Returns a text with every address in it as it may be shown."""
    return _ADDRESS_IN_TEXT.sub(lambda found: without_password(found[0]), text)
