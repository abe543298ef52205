"""The live window."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fer_stream.errors import OutputError
from fer_stream.sinks.base import Sink

if TYPE_CHECKING:
    from fer_stream.types import AnalyzedFrame

_FIRST_SIZE_WH = (1280, 720)  # a larger picture opens in a window of this size
_STOP_KEYS = {ord("q"), ord("Q"), 27}


class WindowSink(Sink):
    """Shows the annotated pictures in a window that can be resized and keeps their shape.

    OpenCV's windows belong to the thread that made them: `write` and `close` are to be called in one
    thread, on macOS the main thread. The window is made with the first frame.

    Attributes:
        stop_requested: Whether the window was closed, or q or Esc pressed in it. What is written
            afterwards is not shown.
    """

    name = "window"
    needs_image = True

    def __init__(self, title: str) -> None:
        """Checks that there is a display.

        Raises:
            OutputError: There is none, or OpenCV was built without windows.
        """
        super().__init__()
        if not display_available():
            raise OutputError("there is no display to show a window on; leave out --show, or use --save")
        self.stop_requested = False
        self._title = title
        self._thread_id: int | None = None

    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None) -> None:
        """Shows one picture and takes note of keys. See `Sink.write`."""
        if image_bgr is None:
            raise ValueError("a window needs the annotated picture")
        if self.stop_requested:
            return
        try:
            if self._thread_id is None:
                self._make(image_bgr)
            elif self._thread_id != threading.get_ident():
                raise RuntimeError("a window is written to in the thread that made it")
            cv2.imshow(self._title, image_bgr)
            key = cv2.waitKey(1) & 0xFF
            visible = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error as error:
            raise OutputError(f"can't show a window: {error.err or error}; leave out --show") from error
        self.stop_requested = key in _STOP_KEYS or not visible

    def close(self) -> None:
        """Closes the window."""
        if self._thread_id is None:
            return
        self._thread_id = None
        try:
            cv2.destroyWindow(self._title)
            cv2.waitKey(1)  # the window goes when its events are handled
        except cv2.error:
            pass  # the user has closed it already

    def outputs(self) -> list[Path]:
        """Returns nothing: a window makes no file."""
        return []

    def _make(self, image_bgr: np.ndarray) -> None:
        """Makes the window, in the shape of the picture and no larger than a small screen."""
        height, width = image_bgr.shape[:2]
        scale = min(1.0, _FIRST_SIZE_WH[0] / width, _FIRST_SIZE_WH[1] / height)
        cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        self._thread_id = threading.get_ident()
        cv2.resizeWindow(self._title, max(1, round(width * scale)), max(1, round(height * scale)))


def display_available() -> bool:
    """Tells whether a window can be made.

    On Linux, OpenCV's Qt ends the whole process where it finds no display, so that is found out
    here, by asking whether a display server answers.
    """
    gui = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    if gui is not None and gui[1].upper() == "NONE":
        return False
    if sys.platform in ("win32", "darwin"):
        return True
    return _x11_answers(os.environ.get("DISPLAY", "")) or _wayland_answers()


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
