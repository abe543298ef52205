"""Find out whether a window can be made here."""

from __future__ import annotations

import functools
import os
import re
import select
import socket
import subprocess
import sys
from pathlib import Path

import cv2

_ANSWER_S = 5.0  # a server behind ssh on a slow line needs seconds

# Opens the display with the library that Qt uses, says so, and keeps it open until its input ends. It runs in
# a separate process, because a process can be killed if the server never answers, and because libxcb writes
# the reason for a refusal only to standard error.
_PROBE = """
import ctypes, sys
x11 = ctypes.CDLL("libX11.so.6")
x11.XOpenDisplay.restype = ctypes.c_void_p
if not x11.XOpenDisplay(None):
    sys.exit(1)
print("open", flush=True)
sys.stdin.read()
"""
# Probes whose connections are kept open: a server without any other connection restarts when its last one is
# closed, and drops programs that are just connecting.
_probes: list[subprocess.Popen[bytes]] = []

_NO_DISPLAY = "there is no display to show a window on"


def display_available() -> bool:
    """Return whether a window can be made."""
    return why_no_window() is None


def why_no_window() -> str | None:
    """Return the reason why no window can be made here, or None if one can.

    On Linux, OpenCV's Qt ends the whole process if there is no display or the display refuses it. So another
    process tries first. The answer is cached.
    """
    gui = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    if gui is not None and gui[1].upper() == "NONE":
        return "this OpenCV has no windows (opencv-python has them, opencv-python-headless does not)"
    if sys.platform in ("win32", "darwin") or _wayland_answers():
        return None
    display = os.environ.get("DISPLAY", "")
    return _why_no_x11(display, os.environ.get("XAUTHORITY")) if display else _NO_DISPLAY


def end_probes() -> None:
    """End the probes, because an open window has a connection of its own."""
    while _probes:
        _probes.pop().communicate()  # ends its input


@functools.cache
def _why_no_x11(display: str, _cookies: str | None) -> str | None:
    """Return why a display's X server refuses windows, or None if it accepts them."""
    probe = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _PROBE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # so that Ctrl-C in the terminal does not reach it
    )
    assert probe.stdout is not None
    if not select.select([probe.stdout], [], [], _ANSWER_S)[0]:
        probe.kill()
    elif probe.stdout.readline():
        _probes.append(probe)
        return None
    reasons = probe.communicate()[1].decode(errors="replace").split("\n")
    messages = [line.strip() for line in reasons if line.strip()]
    if not messages:
        return _NO_DISPLAY
    return f"the display {display} refuses a window ({messages[-1]}); see the environment's XAUTHORITY"


def _wayland_answers() -> bool:
    """Return whether there is a Wayland compositor that OpenCV can use."""
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
