"""Tell addresses from paths, open them with fsspec, and hide their secrets in messages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fer_stream.errors import UsageError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]+://")  # a single letter is a drive, not a protocol
_NEXT_LINK = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]*://)")  # of a chain, zip://a.mp4::s3://bucket/b.zip
# A password with an unescaped / ? or # looks like a port that is not a number.
_PASSWORD = re.compile(r"(?<=://)([^/?#:@]*):(?:[^/?#]*|(?!\d*(?:[/?#]|$)).*)@")
_USER = re.compile(r"(?<=://)[^/?#@]*@")


def is_address(text: str) -> bool:
    """Return whether a text is an address for fsspec rather than a path."""
    return _ADDRESS.match(text) is not None


def shown(address: str) -> str:
    """Return the part of a path or address that may be shown: no user, password, query or fragment.

    In the path of an archive, `session=1` is a folder, not a secret.
    """
    if not is_address(address):
        return address
    links = (_USER.sub("", link) for link in _NEXT_LINK.split(without_passwords(address)))
    return "::".join(re.split("[?#]", link, maxsplit=1)[0] for link in links)


def without_passwords(address: str) -> str:
    """Return an address without its passwords, and a path as it is."""
    if not is_address(address):
        return address
    return "::".join(_PASSWORD.sub(r"\1@", link) for link in _NEXT_LINK.split(address))


def local_path(text: str) -> str:
    """Return the path of a `file://` address, and any other text as it is."""
    for prefix in ("file://", "local://"):
        if text.startswith(prefix):
            return text[len(prefix) :]
    return text


def file_system(address: str) -> tuple[AbstractFileSystem, str]:
    """Return fsspec's file system for an address, and the path in it.

    Raises:
        UsageError: There is no such file system, or its package is not installed.
        OSError: The file system can't be reached.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(address)
    except ImportError as error:
        protocol = re.split(r"::|:", address)[0]
        raise UsageError(f"{protocol}: {error}; pip install 'fsspec[{protocol}]'") from error
    except ValueError as error:
        raise UsageError(f"{shown(address)}: {error}") from error
