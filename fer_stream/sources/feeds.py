"""Feeds of live sources: cameras and addresses, opened at the start and reopened after each loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from fer_stream.sources.base import SourceKind
from fer_stream.sources.opencv import Capture


@dataclass(frozen=True)
class Connection:
    """An open feed.

    Attributes:
        capture: The source of its pictures.
        needs_pacing: Whether the pictures need to be held back, because they arrive in bursts or all at once.
        is_recording: Whether the feed ends for good, like a file. Other feeds are reopened.
        frame_count: Approximate number of pictures in a recording; None if unknown.
    """

    capture: Capture
    needs_pacing: bool = False
    is_recording: bool = False
    frame_count: int | None = None


class Feed(ABC):
    """A camera or the address of a stream.

    Attributes:
        kind: Camera or network.
        name: Name to show and write, without a password.
        patience_s: Seconds without a picture after which it counts as lost. 0 if it can't go on after a
            failed read.
        first_picture_s: Seconds from the start for which a feed that opens without a picture is opened again.
        opens_in_callers_thread: Whether the caller's thread must open it the first time.
    """

    kind: SourceKind
    name: str
    patience_s = 0.0
    first_picture_s = 0.0
    opens_in_callers_thread = False

    @abstractmethod
    def open(self) -> Connection:
        """Open the feed.

        Raises:
            SourceError: It can't be opened. The message says what to do.
        """

    def no_picture_help(self) -> str:
        """Return advice for a feed that opens but gives no picture."""
        return "check that it sends video"

    def refused_settings(self, size_wh: tuple[int, int], frame_rate: float | None) -> list[str]:
        """Return a line for each setting that the feed did not accept."""
        return []
