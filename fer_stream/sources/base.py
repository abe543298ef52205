"""The base of all sources: the interface, the facts about a source, and a lock that makes closing safe."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from fer_stream.types import Frame

_SourceT = TypeVar("_SourceT", bound="Source")

# The files that count as recordings in a folder. A file that the user names is read whatever its extension.
RECORDING_EXTENSIONS = (
    *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)


class SourceKind(StrEnum):
    """The kinds of sources. Each is also a string: `SourceKind.VIDEO == "video"`."""

    VIDEO = "video"
    IMAGES = "images"
    CAMERA = "camera"
    NETWORK = "network"


@dataclass(frozen=True)
class SourceInfo:
    """Facts about a source, known when it opens.

    Attributes:
        name: The path or address as given, without a password. It is shown and written in the table.
        kind: Kind of the source.
        path: The video file, the single image, or the folder; None for a glob or a live source.
        size_wh: Width and height of the first frame in px, upright and with square pixels.
        frame_rate: Average frames per second; None for images or if unknown.
        time_base: Seconds per tick of a recorded video's timestamps; None for everything else.
        duration_s: Length of the whole recording; None if unknown or live.
        frame_count: Number of frames between start and end: exact for images, an estimate for video; None if
            unknown or live.
        start_s: Start of the part, presentation time.
        end_s: End of the part (exclusive); None for the end of the recording.
        can_seek: Whether seeking by time works. False if timestamps restart before the part.
        clock_starts_s: Presentation time at which the whole recording begins. It is about 0, except in
            transport streams, whose clock may begin at any time.
        usual_interval_s: Usual seconds from frame to frame, if gaps make the average longer; else None.

    Raises:
        ValueError: There is no such kind.
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
    clock_starts_s: float = 0.0
    usual_interval_s: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", SourceKind(self.kind))

    @property
    def interval_s(self) -> float:
        """Expected seconds from frame to frame; those of 30 frames per second if the rate is unknown."""
        return self.usual_interval_s or 1 / float(self.frame_rate or 30)

    @property
    def is_live(self) -> bool:
        """True if frames come in real time and are lost unless somebody fetches them."""
        return self.kind in (SourceKind.CAMERA, SourceKind.NETWORK)


@dataclass(frozen=True)
class SourceStatus:
    """Current state of a source, for display.

    Attributes:
        connected: Whether the source is open. False while a lost live source is being reopened.
        attempt: Number of the attempt to reopen it, from 1; 0 while it is connected.
        since_s: Seconds since the last picture; 0 for sources that are not live.
        message: A message for the user, such as `reconnecting, attempt 3, no picture for 12 s`; empty if all
            is well.
    """

    connected: bool = True
    attempt: int = 0
    since_s: float = 0.0
    message: str = ""


class Source(ABC):
    """A stream of frames. It is open from the start and is read once. Its user closes it.

    A subclass opens in `__init__`, fails there at once, sets `info`, and reads in `_read`. `close` and the
    end of a run wait for `_read`, so it should return within about a second. For input that may stay silent
    for longer, write a `feeds.Feed`.

    Attributes:
        info: Facts about the source.
        problems: Problems that did not end the source, a line each. The list is complete when the last frame
            has been read or the source is closed.
    """

    info: SourceInfo

    def __init__(self, *, mirror: bool) -> None:
        self.problems: list[str] = []
        self._mirror = mirror
        self._closed = False
        # Held while a frame is read: closing a decoder while another thread reads from it crashes.
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in order, each once. Stop early if the source is closed.

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
        """Number of a live source's frames that were replaced by newer ones, since the first one was read."""
        return 0

    @property
    def status(self) -> SourceStatus:
        """State of the source. Any thread may read it, also while another one waits for a frame."""
        return SourceStatus()

    def close(self) -> None:
        """Close the source. May be called more than once, and while another thread reads."""
        self._closed = True  # before the lock, so that a reading thread stops at its next frame
        with self._lock:
            self._release()

    @abstractmethod
    def _read(self) -> Frame | None:
        """Return the next frame, or None at the end."""

    @abstractmethod
    def _release(self) -> None:
        """Release what is open. May be called more than once."""

    def _frame(self, bgr: np.ndarray, index: int, time_s: float, source: str) -> Frame:
        """Make a frame that leaves the source now, mirrored if the user asked for it."""
        if self._mirror:
            bgr = cv2.flip(bgr, 1)
        return Frame(bgr, index, time_s, source, captured_s=time.monotonic())

    def __enter__(self: _SourceT) -> _SourceT:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
