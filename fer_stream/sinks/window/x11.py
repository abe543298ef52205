"""Ask an X server whether it accepts this process, with the first message of the X11 protocol."""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

_ANSWER_S = 5.0  # a server behind ssh on a slow line needs seconds
_SUCCESS = 1  # the first byte of the answer; 0 is a refusal, 2 asks for more authentication
_COOKIE = b"MIT-MAGIC-COOKIE-1"
# Families of entries in the cookie file: a host by its address, this host, or any host.
_INTERNET, _INTERNET6, _LOCAL, _WILD = 0, 6, 256, 0xFFFF


def connect(display: str) -> socket.socket:
    """Connect to an X server as a program with windows does.

    Args:
        display: A display as in DISPLAY: `:0`, `unix:1.0` or `host:10.0`.

    Returns:
        The open connection. Keep it open: a server without any other connection restarts when this one is
        closed, and drops programs that are just connecting.

    Raises:
        PermissionError: The server refuses us: the cookie is wrong, or it has no room. The message is its
            own.
        OSError: No server answers.
    """
    parts = re.fullmatch(r"(?P<host>.*?):(?P<number>\d+)(\.\d+)?", display)
    if parts is None:
        raise OSError(f"{display!r} names no display")
    client = _connected(parts["host"], int(parts["number"]))
    try:
        name, cookie = _cookie(client, parts["number"].encode())
        hello = struct.pack("<BxHHHHxx", ord("l"), 11, 0, len(name), len(cookie))
        client.sendall(hello + _padded(name) + _padded(cookie))
        status, reason_bytes = _received(client, 8)[:2]
        if status != _SUCCESS:
            reason = _received(client, reason_bytes) if status == 0 else b"asks for another authentication"
            raise PermissionError(" ".join(reason.decode(errors="replace").split()))
    except BaseException:
        client.close()
        raise
    return client


def _connected(host: str, number: int) -> socket.socket:
    """Connect to the server of a display, on this machine or another."""
    if host not in ("", "unix"):
        try:
            return socket.create_connection((host, 6000 + number), timeout=_ANSWER_S)
        except OverflowError as error:  # no such port
            raise OSError(f"there is no display {number}") from error
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(_ANSWER_S)
    path = f"/tmp/.X11-unix/X{number}"
    try:
        try:
            client.connect(path)
        except OSError:
            client.connect(f"\0{path}")
    except OSError:
        client.close()
        raise
    return client


def _received(client: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        more = client.recv(count - len(content))
        if not more:
            raise ConnectionError("the display server hung up")
        content += more
    return content


def _cookie(client: socket.socket, number: bytes) -> tuple[bytes, bytes]:
    """Return the kind and value of the first matching cookie in the user's file, as X11's libraries do."""
    family, address = _LOCAL, socket.gethostname().encode()
    peer = client.getpeername()
    if client.family != socket.AF_UNIX and peer[0] not in ("127.0.0.1", "::1"):
        family = _INTERNET if client.family == socket.AF_INET else _INTERNET6
        address = socket.inet_pton(client.family, peer[0].partition("%")[0])
    path = os.environ.get("XAUTHORITY") or Path.home() / ".Xauthority"
    try:
        content = Path(path).read_bytes()
        for entry_family, entry_address, entry_number, name, cookie in _entries(content):
            if (
                (entry_family == _WILD or (entry_family, entry_address) == (family, address))
                and entry_number in (b"", number)
                and name == _COOKIE
            ):
                return name, cookie
    except (OSError, struct.error):  # no file, or a truncated one
        pass
    return b"", b""


def _entries(content: bytes) -> Iterator[tuple[int, bytes, bytes, bytes, bytes]]:
    """Yield the family, address, display number, kind and cookie of each entry."""
    at = 0
    while at < len(content):
        (family,) = struct.unpack_from(">H", content, at)
        at += 2
        fields = []
        for _ in range(4):
            (length,) = struct.unpack_from(">H", content, at)
            fields.append(content[at + 2 : at + 2 + length])
            at += 2 + length
        yield family, fields[0], fields[1], fields[2], fields[3]


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 4)
