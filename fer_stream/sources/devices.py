"""What a live source reads from: opened at the start, and anew whenever it was lost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from fer_stream.sources.base import SourceKind
from fer_stream.sources.opencv import Capture


@dataclass(frozen=True)
class Connection:
    """An open device.

    Attributes:
        capture: Where its pictures come from.
        is_paced: Whether they come faster than they are to be shown, in bursts or all at once.
        frame_count: About how many pictures a recording has, which is not opened anew; None for what
            has no end.
    """

    capture: Capture
    is_paced: bool = False
    frame_count: int | None = None


class Device(ABC):
    """A camera or the address of a stream.

    Attributes:
        kind: Which of them.
        name: As it may be shown and written: never with a password.
        patience_s: How long it may give no picture before it counts as lost. 0 for what can't go on
            once a read has failed.
        opens_in_callers_thread: Whether the first opening has to be done in the thread that asks for it.
    """

    kind: SourceKind
    name: str
    patience_s = 0.0
    opens_in_callers_thread = False

    @abstractmethod
    def open(self) -> Connection:
        """Opens it.

        Raises:
            SourceError: It can't be opened; says what to do.
        """

    def no_picture_help(self) -> str:
        """Returns what may be wrong where it opens but gives no picture."""
        return "see that it sends video"

    def unmet_wishes(self, size_wh: tuple[int, int], frame_rate: float | None) -> list[str]:
        """Returns what was asked for and is not given, a line each."""
        return []
