"""Find out whether a window can be made here."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path

import cv2

from fer_stream.sinks.window import x11

# One connection to each X server that accepted us, open until the process ends; see `x11.connect`.
_connections: dict[str, socket.socket] = {}


def display_available() -> bool:
    """Return whether a window can be made."""
    return why_no_window() is None


def why_no_window() -> str | None:
    """Return the reason why no window can be made here, or None if one can.

    On Linux, OpenCV's Qt ends the whole process if there is no display, or one that refuses it. So this asks
    the display server first.
    """
    gui = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    if gui is not None and gui[1].upper() == "NONE":
        return "this OpenCV is built without windows (opencv-python has them, opencv-python-headless not)"
    if sys.platform in ("win32", "darwin") or _wayland_answers():
        return None
    display = os.environ.get("DISPLAY", "")
    try:
        newest = x11.connect(display)
    except PermissionError as error:
        return f"the display {display} refuses a window ({error}); see the environment's XAUTHORITY"
    except OSError:
        return "there is no display to show a window on"
    if display in _connections:
        _connections[display].close()
    _connections[display] = newest
    return None


def _wayland_answers() -> bool:
    """Return whether a Wayland compositor answers that OpenCV can use."""
    name, folder = os.environ.get("WAYLAND_DISPLAY", ""), os.environ.get("XDG_RUNTIME_DIR", "")
    if not name or not folder:
        return False
    # OpenCV's wheels contain a Qt for X11 only.
    plugins = Path(cv2.__file__).parent / "qt" / "plugins" / "platforms"
    if plugins.is_dir() and not any("wayland" in plugin.name for plugin in plugins.iterdir()):
        return False
    return _socket_answers(str(Path(folder, name)))


def _socket_answers(address: str) -> bool:
    """Return whether a program listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(2)
        try:
            client.connect(address)
        except OSError:
            return False
    return True
