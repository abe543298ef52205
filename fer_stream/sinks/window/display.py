"""Whether a window can be made here."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path

import cv2


def display_available() -> bool:
    """Tells whether a window can be made."""
    return why_no_window() is None


def why_no_window() -> str | None:
    """Returns why no window can be made here, or None where one can.

    On Linux, OpenCV's Qt ends the whole process where it finds no display, so that is found out
    here, by asking whether a display server answers.
    """
    gui = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    if gui is not None and gui[1].upper() == "NONE":
        return "this OpenCV is built without windows (opencv-python has them, opencv-python-headless not)"
    if sys.platform in ("win32", "darwin"):
        return None
    if _x11_answers(os.environ.get("DISPLAY", "")) or _wayland_answers():
        return None
    return "there is no display to show a window on"


def _x11_answers(display: str) -> bool:
    """Tells whether the X server of a DISPLAY such as `:0`, `unix:1.0` or `host:10.0` answers."""
    parts = re.fullmatch(r"(?P<host>.*?):(?P<number>\d+)(\.\d+)?", display)
    if parts is None:
        return False
    number = int(parts["number"])
    if parts["host"] in ("", "unix"):
        path = f"/tmp/.X11-unix/X{number}"
        return _socket_answers(path) or _socket_answers(f"\0{path}")
    try:
        socket.create_connection((parts["host"], 6000 + number), timeout=2).close()
    except OSError:
        return False
    return True


def _wayland_answers() -> bool:
    """Tells whether a Wayland compositor answers and OpenCV can speak with it."""
    name, folder = os.environ.get("WAYLAND_DISPLAY", ""), os.environ.get("XDG_RUNTIME_DIR", "")
    if not name or not folder:
        return False
    # The wheels of OpenCV carry a Qt that speaks X11 only.
    plugins = Path(cv2.__file__).parent / "qt" / "plugins" / "platforms"
    if plugins.is_dir() and not any("wayland" in plugin.name for plugin in plugins.iterdir()):
        return False
    return _socket_answers(str(Path(folder, name)))


def _socket_answers(address: str) -> bool:
    """Tells whether somebody listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(2)
        try:
            client.connect(address)
        except OSError:
            return False
    return True
