"""Open the page's socket, and make the address that opens the page."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import socket

from fer_stream.errors import OutputError, UsageError, reason_of

DEFAULT_HOST = "127.0.0.1"
TOKEN_VARIABLE = "FER_STREAM_TOKEN"
_SHORTEST_TOKEN = 12
_TOKEN = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII)  # needs no escaping in addresses and cookies
_HOST = re.compile(r"(?:(?P<host>\[[^\[\]]+\]|[^:\[\]]*):)?(?P<port>\d{1,5})", re.ASCII)


def parse_host_and_port(text: str) -> tuple[str, int]:
    """Read `[HOST:]PORT`, such as `8000`, `0.0.0.0:8000` or `[::1]:0`.

    Raises:
        UsageError: The text has another form.
    """
    parts = _HOST.fullmatch(text.strip())
    if parts is None or int(parts["port"]) > 65535:
        raise UsageError(
            f"--serve takes [HOST:]PORT, such as 8000 or 0.0.0.0:8000, with a port up to 65535, not {text!r}"
        )
    return (parts["host"] or DEFAULT_HOST).strip("[]"), int(parts["port"])


def listen(host: str, port: int) -> socket.socket:
    """Open the socket of the page.

    Args:
        host: A name or an address of this machine.
        port: The port; 0 picks a free one.

    Raises:
        OutputError: The port is taken or not allowed, or the host is not this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (socket.gaierror, UnicodeError) as error:  # UnicodeError: an empty or too long part of a name
        raise OutputError(
            f"can't serve the page at {host}:{port}: this host is not known; give an address of this machine"
        ) from error
    except OSError as error:
        raise OutputError(
            f"can't serve the page at {host}:{port}: {reason_of(error)}; "
            "choose another port, or 0 for a free one"
        ) from error


def token_from_environment() -> str:
    """Return the token from FER_STREAM_TOKEN, or else a random one.

    Raises:
        UsageError: The variable's value is too short, or has characters that an address can't hold.
    """
    token = os.environ.get(TOKEN_VARIABLE, "")
    if not token:
        return secrets.token_urlsafe(24)
    if len(token) < _SHORTEST_TOKEN or not _TOKEN.fullmatch(token):
        raise UsageError(
            f"{TOKEN_VARIABLE} needs at least {_SHORTEST_TOKEN} characters: letters, digits and . _ ~ -; "
            "leave it out for a random one"
        )
    return token


def page_address(host: str, bound_ip: str, port: int, token: str) -> str:
    """Return the address that opens the page, with the token.

    Args:
        host: The host as the user gave it.
        bound_ip: The IP address at which the page's socket listens. If that is all networks, the returned
            address is the one under which other machines reach this one.
        port: The port at which the socket listens.
        token: The token.
    """
    shown = _own_address(bound_ip) if ipaddress.ip_address(bound_ip).is_unspecified else host
    if ":" in shown:
        shown = f"[{shown}]"
    return f"http://{shown}:{port}/?token={token}"


def is_address(host: str) -> bool:
    """Return whether a host is an IP address and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _own_address(bound_ip: str) -> str:
    """Return the address under which other machines reach this one, or else the loopback address."""
    family, outside, loopback = (
        (socket.AF_INET6, "2001:db8::1", "::1")
        if ":" in bound_ip
        else (socket.AF_INET, "192.0.2.1", "127.0.0.1")
    )
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((outside, 9))  # chooses a network interface and sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return loopback
