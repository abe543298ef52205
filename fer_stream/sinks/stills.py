"""Write annotated stills of a video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_stream.errors import UsageError
from fer_stream.ranges import STILLS_EVERY_S
from fer_stream.sinks.base import Sink, check_folder
from fer_stream.sinks.images import write_image

if TYPE_CHECKING:
    from fer_stream.types import AnalyzedFrame

# A face that was not seen for this long is forgotten. If it comes back, it counts as new.
FORGET_AFTER_S = 60.0


@dataclass
class _Known:
    """State of one face.

    Attributes:
        label: The label that counted last, see `Face.label`; None if none has counted yet.
        candidate: A different label that it shows now, if any.
        since_s: Time at which the candidate first appeared.
        seen_s: Time at which it was last seen.
    """

    label: str | None
    candidate: str | None
    since_s: float
    seen_s: float


class StillsSink(Sink):
    """Writes annotated stills, at regular times and when a face's expression changes.

    A face counts as changed when it is new or its label differs from the last one that counted, and it has
    kept this label without a break for `hold_s`. So flicker between two labels gives no still. A still shows
    a label that is well established, `hold_s` late. "Unsure" is a label like the expressions: while a face is
    unsure, it does not matter which expression is the most probable.

    Stills are named after their position in the source, and sort by it:
    `frame-000123_00-00-05.120.jpg` is frame 123, at 5.12 seconds.
    """

    name = "stills"
    needs_frame = False

    def __init__(
        self,
        folder: Path | str,
        *,
        every_s: float | None = None,
        on_change: bool = True,
        hold_s: float = 0.3,
        overwrite: bool = False,
    ) -> None:
        """Check the folder. Make it if it is missing.

        Args:
            folder: The folder for the stills.
            every_s: Seconds of source time from one still to the next, starting with the first frame; None
                for no regular stills.
            on_change: Whether a change of expression gives a still.
            hold_s: Seconds of source time that a change must last.
            overwrite: Whether existing stills are replaced.

        Raises:
            UsageError: `every_s` is less than 0.001.
            OutputError: The folder can't be written, or contains stills and `overwrite` is False.
        """
        super().__init__()
        if every_s is not None and not STILLS_EVERY_S.holds(every_s):
            raise UsageError(f"every_s is {every_s!r}, which is not {STILLS_EVERY_S.what}")
        self._folder = check_folder(folder, overwrite=overwrite, pattern="frame-*.jpg", source_path=None)
        self._every_s = every_s
        self._on_change = on_change
        self._hold_s = hold_s
        self._overwrite = overwrite
        self._first_s: float | None = None
        self._next_tick = 0
        self._known: dict[int, _Known] = {}
        self._count = 0

    def needs_image(self, analyzed: AnalyzedFrame) -> bool:
        """Return whether the frame becomes a still. See `Sink.needs_image`."""
        # Both are asked for every frame, because each remembers what came before.
        changed = self._on_change and self._changed(analyzed)
        return self._due(analyzed.frame.time_s) or changed

    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None) -> None:
        """Write a still, or nothing without a picture. See `Sink.write`."""
        if image_bgr is None:
            return
        name = f"frame-{analyzed.frame.index:06d}_{_clock(analyzed.frame.time_s)}.jpg"
        write_image(self._folder / name, image_bgr, overwrite=self._overwrite)
        self._count += 1

    def close(self) -> None:
        """Do nothing: every still is finished when written."""

    def outputs(self) -> list[Path]:
        """Return the folder, once it holds a still."""
        return [self._folder] if self._count else []

    def _due(self, time_s: float) -> bool:
        """Return whether the next multiple of `every_s` has come."""
        if self._every_s is None:
            return False
        if self._first_s is None:
            self._first_s = time_s
        # Allow a microsecond of slack, so that 5.999999... seconds count as 6.
        tick = int((time_s - self._first_s + 1e-6) / self._every_s)
        if tick < self._next_tick:
            return False
        self._next_tick = tick + 1
        return True

    def _changed(self, analyzed: AnalyzedFrame) -> bool:
        """Update the state of the faces, and return whether one of them has changed."""
        now_s = analyzed.frame.time_s
        changed = False
        for face in analyzed.faces:
            known = self._known.setdefault(face.id, _Known(None, None, now_s, now_s))
            absent = now_s - known.seen_s > max(self._hold_s, 0.5)
            known.seen_s = now_s
            if face.label == known.label:
                known.candidate = None
                continue
            if face.label != known.candidate or absent:
                known.candidate, known.since_s = face.label, now_s
            if now_s - known.since_s >= self._hold_s - 1e-6:
                known.label, known.candidate = face.label, None
                changed = True
        gone = [id_ for id_, known in self._known.items() if now_s - known.seen_s > FORGET_AFTER_S]
        for id_ in gone:
            del self._known[id_]
        return changed


def _clock(time_s: float) -> str:
    """Return a time for a file name, `HH-MM-SS.mmm`."""
    total_ms = max(0, round(time_s * 1000))
    seconds, milliseconds = divmod(total_ms, 1000)
    return f"{seconds // 3600:02d}-{seconds // 60 % 60:02d}-{seconds % 60:02d}.{milliseconds:03d}"
