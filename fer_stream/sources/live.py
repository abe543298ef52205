"""Live sources: cameras and network streams, reopened when they are lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction

import cv2
import numpy as np

from fer_stream.errors import SourceError
from fer_stream.sources.base import Source, SourceInfo, SourceStatus
from fer_stream.sources.feeds import Connection, Feed
from fer_stream.sources.network import Pacer
from fer_stream.system.background import Background
from fer_stream.types import Frame

# Pause before each attempt to reopen a feed.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
# After this long without a picture, the status says so.
SILENCE_S = 2.0
# Drivers and network code can't be interrupted, so closing waits no longer than this for the reading thread.
# That thread holds nothing that others need, and ends when its read or its opening times out.
CLOSE_WAIT_S = 0.5
_COMPLETE_SHARE = 0.9  # with this share of its pictures, a recording counts as read to its end
_RETRY_S = 0.05  # between reads of a camera that has no picture yet


class LiveSource(Source):
    """Reads a feed in its own thread and yields its newest picture.

    A feed that stalls or goes away is reopened, with growing pauses, until the source is closed. `time_s`
    counts from the first picture; its clock runs on while the feed is away.
    """

    def __init__(self, feed: Feed, *, mirror: bool) -> None:
        """Open the feed and wait for its first picture.

        Raises:
            SourceError: The feed can't be opened, or gives no picture.
        """
        super().__init__(mirror=mirror)
        self._feed = feed
        self._closing = threading.Event()
        self._index = 0
        self._size_wh: tuple[int, int] | None = None
        self._started_s = self._last_picture_s = time.monotonic()
        self._frame_rate: Fraction | None = None
        self._attempt = 0  # to reopen the feed; 0 while it is connected
        self._outages = 0
        self._away_s = 0.0
        self._outages_reported = False
        self._is_read = False
        self._dropped_before = 0  # pictures that came before the first read
        connection = feed.open() if feed.opens_in_callers_thread else None
        self._frames = Background(self._read_feed(connection), drop_old=True)
        try:
            first = self._frames.peek()
        except BaseException:
            self.close()
            raise
        if first is None:
            raise SourceError(f"{feed.name} was closed before its first picture came")
        self.info = SourceInfo(
            name=feed.name,
            kind=feed.kind,
            path=None,
            size_wh=first.size_wh,
            frame_rate=self._frame_rate,
            time_base=None,
            duration_s=None,
            frame_count=None,
        )
        rate = None if self._frame_rate is None else float(self._frame_rate)
        self.problems += feed.refused_settings(first.size_wh, rate)

    @property
    def dropped(self) -> int:
        """Number of frames that newer ones replaced. See `Source.dropped`."""
        return self._frames.dropped - self._dropped_before if self._is_read else 0

    @property
    def status(self) -> SourceStatus:
        """State of the feed. See `Source.status`."""
        attempt, since_s = self._attempt, time.monotonic() - self._last_picture_s
        silence = f"no picture for {since_s:.0f} s"
        if attempt:
            return SourceStatus(False, attempt, since_s, f"reconnecting, attempt {attempt}, {silence}")
        return SourceStatus(True, 0, since_s, silence if since_s >= SILENCE_S else "")

    def close(self) -> None:
        """Close the source, even while it waits for a picture. See `Source.close`."""
        self._closing.set()
        self._frames.stop()  # a waiting reader holds the lock that closing needs
        super().close()

    def _read(self) -> Frame | None:
        frame = next(iter(self._frames), None)
        if not self._is_read:
            self._is_read, self._dropped_before = True, self._frames.dropped
        return frame

    def _release(self) -> None:
        self._frames.close(CLOSE_WAIT_S)
        if self._outages and not self._outages_reported:
            self._outages_reported = True
            times = "once" if self._outages == 1 else f"{self._outages} times"
            away_s = self._away_s + (time.monotonic() - self._last_picture_s if self._attempt else 0)
            self.problems.append(f"{self._feed.name} was away {times}, for {away_s:.0f} s in all")

    # The methods from here on run in the reading thread.

    def _read_feed(self, connection: Connection | None) -> Iterator[Frame]:
        """Yield the pictures as they come. Reconnect after each loss."""
        connection = connection or self._feed.open()
        self._frame_rate = connection.capture.frame_rate
        pause_s = FIRST_PAUSE_S
        while connection is not None:
            opened_s = time.monotonic()
            yield from self._read_until_lost(connection)
            if self._index == 0 and not self._closing.is_set():
                waited_s = time.monotonic() - self._started_s
                if waited_s < self._feed.first_picture_s and not connection.is_recording:
                    connection = self._feed.open()
                    continue
                raise SourceError(
                    f"{self._feed.name} opens but gives no picture: {self._feed.no_picture_help()}"
                )
            if connection.is_recording:
                self._check_end(connection.frame_count or 0)
                return
            if self._last_picture_s - opened_s > pause_s:
                # It held for a while, so start with short pauses again.
                pause_s = FIRST_PAUSE_S
            self._outages += self._attempt == 0
            connection, pause_s = self._reopen(pause_s)

    def _check_end(self, frame_count: int) -> None:
        """Raise an error if a recording ended early because the connection broke.

        The stated number of frames may be off by a few. 0 means that the number is unknown.
        """
        if self._index < _COMPLETE_SHARE * frame_count and not self._closing.is_set():
            raise SourceError(
                f"{self._feed.name} broke off after {self._index} of {frame_count} pictures; "
                "download it, or start again"
            )

    def _reopen(self, pause_s: float) -> tuple[Connection | None, float]:
        """Try to reopen the feed until it opens or the source is closed.

        Returns:
            The connection, or None if the source was closed; and the next pause in seconds.
        """
        while True:
            self._attempt += 1
            if self._closing.wait(pause_s):
                return None, pause_s
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            with suppress(SourceError):
                return self._feed.open(), pause_s

    def _read_until_lost(self, connection: Connection) -> Iterator[Frame]:
        """Yield the pictures of one connection, then close it."""
        capture = connection.capture
        pacer = Pacer() if connection.needs_pacing else None
        received_s = time.monotonic()
        try:
            while not self._closing.is_set():
                bgr = capture.read_bgr()
                if bgr is None:
                    if time.monotonic() - received_s >= self._feed.patience_s:
                        return
                    self._closing.wait(_RETRY_S)
                    continue
                if pacer is not None:
                    self._closing.wait(pacer.wait_s(capture.position_s, time.monotonic()))
                received_s = time.monotonic()
                yield self._frame_of(bgr, received_s)
        finally:
            capture.release()

    def _frame_of(self, bgr: np.ndarray, received_s: float) -> Frame:
        """Make a frame of a picture, and note that the feed is connected."""
        if self._size_wh is None:
            self._size_wh, self._started_s = (bgr.shape[1], bgr.shape[0]), received_s
        elif self._size_wh != (bgr.shape[1], bgr.shape[0]):  # the feed came back with another size
            bgr = cv2.resize(bgr, self._size_wh, interpolation=cv2.INTER_AREA)
        if self._attempt:
            self._away_s += received_s - self._last_picture_s
            self._attempt = 0
        self._last_picture_s = received_s
        frame = self._frame(bgr, self._index, received_s - self._started_s, self._feed.name)
        self._index += 1
        return frame
