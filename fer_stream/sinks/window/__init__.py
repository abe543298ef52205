"""The live window: the picture, its status line, and its keys.

`hud` draws what is shown over the picture, and `display` finds out whether a window can be made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fer_stream.errors import OutputError, one_line
from fer_stream.rendering.overlay import Overlay
from fer_stream.sinks.base import Sink
from fer_stream.sinks.captures import Captures
from fer_stream.sinks.window import hud
from fer_stream.sinks.window.display import display_available, end_probes, why_no_window
from fer_stream.status import RunStatus
from fer_stream.types import AnalyzedFrame
from fer_stream.words import clock_text

if TYPE_CHECKING:
    from fer_stream.sources import SourceInfo
    from fer_stream.status import Recording

__all__ = ["WindowSink", "display_available", "why_no_window"]

_FIRST_SIZE_WH = (1280, 720)  # a larger picture opens in a window of this size
_LEAST_WIDTH = 640  # a smaller picture opens in a window of this width, in which text can be read
_SMALLEST_SIDE = 64  # px; a window that the user makes smaller is drawn in this size
_REDRAW_S = 1 / 60  # most screens refresh no faster
_STATUS_EVERY_S = 0.5  # numbers that change faster can't be read
_NOTE_S = 3.0
_OPENING_S = 0.3  # the longest wait for a window to be on the screen
_MOST_KEYS = 8  # handled at once
_ESCAPE = 27
_SEPARATOR = "  ·  "


@dataclass(frozen=True)
class _Picture:
    """The picture in the window.

    Attributes:
        analyzed: The frame.
        image_bgr: The frame with the full overlay, uint8 (H, W, 3).
        kept_bgr: The picture to save: without bars if they are hidden.
        shown_bgr: The picture to show: mirrored if the user asked for it.
    """

    analyzed: AnalyzedFrame
    image_bgr: np.ndarray
    kept_bgr: np.ndarray
    shown_bgr: np.ndarray


class WindowSink(Sink):
    """Shows the annotated pictures in a window that can be resized and keeps their shape.

    Its keys save stills and recordings, hold or mirror the picture, and hide the bars; h lists them. Stills
    and recordings look like the window, but are never mirrored.

    OpenCV's windows belong to the thread that made them, so call everything in one thread; on macOS, in the
    main thread. Used as a context manager, the window opens at once, otherwise with the first frame.

    Attributes:
        stop_requested: Whether the window was closed, or q or Esc was pressed in it. Later frames are not
            shown.
    """

    name = "window"

    def __init__(
        self, info: SourceInfo, *, status: RunStatus | None = None, folder: Path | str = "."
    ) -> None:
        """Check that there is a display.

        Args:
            info: Facts about the source.
            status: State of the run, to show; it also gets a notice of each saved file.
            folder: The folder for stills and recordings.

        Raises:
            OutputError: There is no display, or OpenCV was built without windows.
        """
        super().__init__()
        reason = why_no_window()
        if reason is not None:
            raise OutputError(f"{reason}; leave out --show, or use --save")
        self._info = info
        self._status = status or RunStatus()
        self._title = f"fer-stream: {one_line(info.name)}"
        self._captures = Captures(Path(folder), info, self._note)
        self.problems = self._captures.problems
        self._thread_id: int | None = None
        self._size_wh = _FIRST_SIZE_WH
        self._shows_bars, self._mirrors, self._holds, self._shows_keys = True, False, False, False
        self._plain_overlay = Overlay(show_bars=False)
        self._mirror_overlay = Overlay()
        self._newest: AnalyzedFrame | None = None
        self._picture: _Picture | None = None
        self._drawn_s = self._status_s = -np.inf
        self._status_line = ""
        self._note_text, self._noted_s = "", -np.inf

    def __enter__(self) -> WindowSink:
        """Open the window, so that it is there while the networks load."""
        self._guard(self._open)
        return self

    def needs_image(self, analyzed: AnalyzedFrame) -> bool:
        """Return True: every frame is shown."""
        return True

    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None) -> None:
        """Show one picture and handle the keys. See `Sink.write`."""
        if image_bgr is None:
            raise ValueError("a window needs the annotated picture")
        if self.stop_requested:
            return
        self._newest = analyzed
        # While the picture is held, new ones are drawn only for a recording.
        if not self._holds or self._captures.recording:
            picture = self._drawn(analyzed, image_bgr)
            self._captures.write(analyzed, picture.kept_bgr)
            if not self._holds:
                self._picture = picture
        self._guard(self._serve)

    def idle(self) -> None:
        """Handle the keys and show warnings while no frame comes. See `Sink.idle`."""
        if not self.stop_requested:
            self._guard(self._serve)

    def close(self) -> None:
        """End a recording and close the window. See `Sink.close`."""
        self._captures.close()
        if self._thread_id is None:
            return
        self._thread_id = None
        try:
            cv2.destroyWindow(self._title)
            cv2.waitKey(1)  # the window disappears when its events are handled
        except cv2.error:
            pass  # the user has closed it already

    def outputs(self) -> list[Path]:
        """Return the stills and recordings that were saved with keys."""
        return self._captures.outputs()

    def recordings(self) -> list[Recording]:
        """Return the recording that was started with a key."""
        return self._captures.recordings()

    # The window

    def _guard(self, action: Callable[[], None]) -> None:
        """Run an action on the window, in the thread that made it.

        Raises:
            OutputError: OpenCV failed.
        """
        if self._thread_id not in (None, threading.get_ident()):
            raise RuntimeError("a window is written to in the thread that made it")
        try:
            action()
        except cv2.error as error:
            raise OutputError(f"can't show a window: {error.err or error}; leave out --show") from error

    def _open(self) -> None:
        """Make the window, in the shape of the picture and no larger than a small screen."""
        width, height = self._info.size_wh or _FIRST_SIZE_WH
        scale = min(max(1.0, _LEAST_WIDTH / width), _FIRST_SIZE_WH[0] / width, _FIRST_SIZE_WH[1] / height)
        self._size_wh = max(_SMALLEST_SIDE, round(width * scale)), max(_SMALLEST_SIDE, round(height * scale))
        # The picture is fitted to the window here, because backends differ in how they keep its shape.
        cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_FREERATIO | cv2.WINDOW_GUI_NORMAL)
        self._thread_id = threading.get_ident()
        cv2.resizeWindow(self._title, *self._size_wh)
        began_s = time.monotonic()
        while time.monotonic() - began_s < _OPENING_S:
            cv2.imshow(self._title, hud.starting(self._size_wh, "starting …"))
            cv2.waitKey(10)
            if self._is_visible():
                break
        end_probes()

    def _serve(self) -> None:
        """Draw what is due, then handle the keys that were pressed."""
        if self._thread_id is None:
            self._open()
        now_s = time.monotonic()
        if now_s - self._drawn_s >= _REDRAW_S:
            self._draw(now_s)
        for _ in range(_MOST_KEYS):
            code = cv2.waitKeyEx(1)
            if code == -1:
                break
            # The bits above 16 stand for Shift, Ctrl and so on. An arrow key is not a character, although the
            # last 8 bits of its code look like one.
            character = code & 0xFFFF
            if character < 0x80:
                self._press(character)
        self.stop_requested = self.stop_requested or not self._is_visible()

    def _is_visible(self) -> bool:
        try:
            return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:  # Qt has closed its last window and can't answer any more
            return False

    def _draw(self, now_s: float) -> None:
        if self._picture is None:
            return
        self._drawn_s = now_s
        _, _, width, height = cv2.getWindowImageRect(self._title)
        if width > 0 and height > 0:  # not while it is minimized
            self._size_wh = max(width, _SMALLEST_SIDE), max(height, _SMALLEST_SIDE)
        canvas = hud.fitted(self._picture.shown_bgr, self._size_wh)
        hud.draw(canvas, self._hud(now_s))
        cv2.imshow(self._title, canvas)

    def _hud(self, now_s: float) -> hud.Hud:
        if now_s - self._status_s >= _STATUS_EVERY_S:
            self._status_line, self._status_s = self._describe(now_s), now_s
        # A recording started with the key is shown rather than one from the command line.
        recordings = self._captures.recordings() or list(self._status.recordings)
        return hud.Hud(
            status=self._status_line,
            recording=clock_text(recordings[0].duration_s) if recordings else None,
            warning=self._status.source.message,
            note=self._note_text if now_s - self._noted_s < _NOTE_S else "",
            held=self._holds,
            shows_keys=self._shows_keys,
        )

    def _describe(self, now_s: float) -> str:
        """Return the status line."""
        status = self._status
        if not self._info.is_live:
            parts = [f"{status.frames_per_s(now_s):.1f} frames/s", clock_text(status.time_s)]
            return _SEPARATOR.join(part for part in (*parts, status.device) if part)
        return _SEPARATOR.join(status.numbers(now_s))

    # The keys

    def _press(self, code: int) -> None:
        """Handle a key, in upper or lower case."""
        key = chr(code).lower()
        if code == _ESCAPE or key == "q":
            self.stop_requested = True
        elif key == "s" and self._picture is not None:
            self._captures.save_still(self._picture.kept_bgr)
        elif key == "r" and self._newest is not None:
            self._captures.toggle_recording(self._newest.frame.time_s)
        elif key == " ":
            self._holds = not self._holds
        elif key == "h":
            self._shows_keys = not self._shows_keys
        elif key == "b":
            self._shows_bars = not self._shows_bars
            self._draw_again()
        elif key == "m":
            self._mirrors = not self._mirrors
            self._draw_again()
        else:
            return
        self._drawn_s = -np.inf  # shown at once

    def _draw_again(self) -> None:
        """Draw the picture with the new settings, even if it is held."""
        # An overlay keeps each tag where it was, which may no longer fit.
        self._plain_overlay = Overlay(show_bars=False)
        self._mirror_overlay = Overlay(show_bars=self._shows_bars)
        if self._picture is not None:
            self._picture = self._drawn(self._picture.analyzed, self._picture.image_bgr)

    def _drawn(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray) -> _Picture:
        """Draw a frame with or without bars, mirrored or not, as set with the keys."""
        kept_bgr = image_bgr if self._shows_bars else self._plain_overlay.annotate(analyzed)
        shown_bgr = self._mirror_overlay.annotate(mirrored(analyzed)) if self._mirrors else kept_bgr
        return _Picture(analyzed, image_bgr, kept_bgr, shown_bgr)

    def _note(self, text: str) -> None:
        """Show a note in the window, and add it to the run's notices."""
        self._note_text, self._noted_s = one_line(text), time.monotonic()
        self._status.notice(text)


def mirrored(analyzed: AnalyzedFrame) -> AnalyzedFrame:
    """Return a frame with left and right exchanged, including the boxes and landmarks of its faces."""
    frame = analyzed.frame
    width = frame.size_wh[0]
    faces = []
    for face in analyzed.faces:
        left, top, right, bottom = face.box_xyxy.tolist()
        # The eye on the left of the picture is now the other one, and so are the corners of the mouth.
        landmarks_xy = face.landmarks_xy[[1, 0, 2, 4, 3]] * [-1, 1] + [width, 0]
        faces.append(
            replace(
                face,
                box_xyxy=np.array([width - right, top, width - left, bottom], np.float32),
                landmarks_xy=landmarks_xy.astype(np.float32),
            )
        )
    return AnalyzedFrame(replace(frame, bgr=cv2.flip(frame.bgr, 1)), tuple(faces))
