"""What all sources have in common: the contract, and the lock that makes closing safe."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import cv2
import numpy as np

from fer_stream.types import Frame

_SourceT = TypeVar("_SourceT", bound="Source")

# The files that count as recordings in a folder. A file that is named is read whatever it is called.
RECORDING_EXTENSIONS = (
    *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)


class SourceKind(StrEnum):
    """What a source is. Each is a string as well: `SourceKind.VIDEO == "video"`."""

    VIDEO = "video"
    IMAGES = "images"
    CAMERA = "camera"
    NETWORK = "network"


@dataclass(frozen=True)
class SourceInfo:
    """What is known of a source when it opens.

    Attributes:
        name: The path or address as given, never with a password; shown, and written in the table.
        kind: What it is.
        path: The video file, the single image, or the folder; None for a glob or a live source.
        size_wh: Width and height of the first frame in px, upright.
        frame_rate: Frames a second on average; None for images or where it is not known.
        time_base: Seconds a tick of a recorded video's timestamps; None for everything else.
        duration_s: Length of the whole recording; None if not known or live.
        frame_count: Frames to expect between start and end: exact for images, an estimate for
            video, None if not known or live.
        start_s: First moment asked for, in presentation time.
        end_s: First moment no longer asked for; None for the end of the recording.
        can_seek: Whether a time leads to a place in the file: not where its timestamps restart before
            the part.
    """

    name: str
    kind: SourceKind
    path: Path | None
    size_wh: tuple[int, int] | None
    frame_rate: Fraction | None
    time_base: Fraction | None
    duration_s: float | None
    frame_count: int | None
    start_s: float = 0.0
    end_s: float | None = None
    can_seek: bool = True

    @property
    def is_live(self) -> bool:
        """Whether frames come when they come, and are lost when nobody fetches them."""
        return self.kind in (SourceKind.CAMERA, SourceKind.NETWORK)


@dataclass(frozen=True)
class SourceStatus:
    """How a source is doing at this moment, for whoever shows it.

    Attributes:
        connected: Whether pictures can come; False while a live source is being opened anew.
        attempt: Number of the attempt to open it anew, from 1; 0 while it is connected.
        since_s: Seconds since the last picture came; 0 for what is not live.
        message: What a user should know, such as `reconnecting, attempt 3, no picture for 12 s`;
            empty while all is well.
    """

    connected: bool = True
    attempt: int = 0
    since_s: float = 0.0
    message: str = ""


class Source(ABC):
    """A stream of frames, open from the start, to be read once and closed.

    A subclass opens in `__init__`, fails there at once, sets `info`, and reads in `_read`.

    Attributes:
        info: What is known of it.
        problems: What was wrong with the source but did not end it, a line each; complete when
            the last frame has been read or the source is closed.
    """

    info: SourceInfo

    def __init__(self, *, mirror: bool) -> None:
        self.problems: list[str] = []
        self._mirror = mirror
        self._closed = False
        # Held while a frame is read: a decoder that is closed under a reading thread crashes.
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames in order, each once; ends early when the source is closed.

        Raises:
            SourceError: The source ended in an error.
        """
        while True:
            with self._lock:
                frame = None if self._closed else self._read()
            if frame is None:
                return
            yield frame

    @property
    def dropped(self) -> int:
        """Of a live source, the frames since the first one read that a newer one has replaced."""
        return 0

    @property
    def status(self) -> SourceStatus:
        """How it is doing now; may be asked in any thread, also while another one waits for a frame."""
        return SourceStatus()

    def close(self) -> None:
        """Closes the source; may be called more than once, and while another thread reads."""
        self._closed = True  # before the lock, so that a reading thread stops at its next frame
        with self._lock:
            self._release()

    @abstractmethod
    def _read(self) -> Frame | None:
        """Returns the next frame, or None at the end."""

    @abstractmethod
    def _release(self) -> None:
        """Lets go of what is open; may be called more than once."""

    def _frame(self, bgr: np.ndarray, index: int, time_s: float, source: str) -> Frame:
        """Makes a frame that leaves the source now, mirrored where that was asked for."""
        if self._mirror:
            bgr = cv2.flip(bgr, 1)
        return Frame(bgr, index, time_s, source, captured_s=time.monotonic())

    def __enter__(self: _SourceT) -> _SourceT:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
