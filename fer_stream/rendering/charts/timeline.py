"""The timeline: collect every face's probabilities over a video, and draw them at its end."""

from __future__ import annotations

from pathlib import Path

from fer_stream.face_time import MOMENT_S, FrameClock, PersonTime, more_people_text
from fer_stream.rendering.charts.curve import Binning, Curve
from fer_stream.rendering.charts.figure import Row, timeline_figure
from fer_stream.rendering.charts.portrait import Portraits
from fer_stream.rendering.plotting import check_chart_path, save_figure
from fer_stream.types import AnalyzedFrame

MOST_ROWS = 12
MOST_KEPT_FACES = 48  # faces whose curves are kept while a video runs
MOST_BINS = 4096
FIRST_BIN_S = 1 / 64  # shorter than any frame; doubles whenever a face fills its bins
RETURN_S = 2.0  # a face that is away for longer may be dropped


class _Record:
    """The data of one face."""

    def __init__(self, face_id: int) -> None:
        self.time = PersonTime(face_id)
        self.curve = Curve()
        self.portraits = Portraits()


class Timeline:
    """Every face's seven probabilities over the time of a video, drawn when it has ended.

    Memory is bounded for any length of video and any crowd. When a curve has too many bins, all bins become
    twice as wide. Of the faces that have left, only those seen longest are kept.

    Args:
        path: The file that `save` writes, one of `CHART_SUFFIXES`.
        source_name: Name of the video in the title.
        interval_s: Expected seconds from frame to frame; the first frame counts for this long.

    Raises:
        UsageError: The extension is unknown.
    """

    def __init__(self, path: Path, *, source_name: str = "", interval_s: float = 1 / 30) -> None:
        self._path = Path(path)
        check_chart_path(self._path)
        # Remove characters that no font draws and no SVG may contain: invalid bytes and control characters.
        self._source_name = "".join(each if each.isprintable() else "\ufffd" for each in source_name)
        self._clock = FrameClock(interval_s)
        self._records: dict[int, _Record] = {}
        self._dropped = 0
        self._dropped_longest_s = 0.0
        self._bin_s = FIRST_BIN_S
        self._frames = 0
        self._first_s = 0.0
        self._last_s = 0.0

    def add(self, analyzed: AnalyzedFrame) -> None:
        """Add the next frame. Frames come in order of time."""
        time_s = analyzed.frame.time_s
        if self._frames == 0:
            self._first_s = time_s
        self._last_s = max(time_s, self._first_s)
        self._frames += 1
        step_s = self._clock.step_s(time_s)
        bin_index = int((self._last_s - self._first_s) / self._bin_s)
        for face in analyzed.faces:
            if face.id not in self._records:
                self._records[face.id] = _Record(face.id)
            record = self._records[face.id]
            record.time.add(face.label, step_s, time_s)
            record.curve.add(bin_index, face)
            record.portraits.look(analyzed, face)
        if any(record.curve.bin_count > MOST_BINS for record in self._records.values()):
            self._bin_s *= 2
            for record in self._records.values():
                record.curve.halve()
        if len(self._records) > MOST_KEPT_FACES:
            self._drop_briefest(time_s)

    def save(self) -> None:
        """Draw the timeline and write it.

        Raises:
            OutputError: The file can't be written.
        """
        frame_s = self._clock.interval_s
        records = sorted(self._records.values(), key=lambda record: (-record.time.seen_s, record.time.id))
        listed = [record for record in records if record.time.seen_s >= MOMENT_S] or records
        shown = sorted(listed[:MOST_ROWS], key=lambda record: record.time.id)
        shown_ids = {record.time.id for record in shown}
        left_out_s = [record.time.seen_s for record in records if record.time.id not in shown_ids]
        figure = timeline_figure(
            [Row(each.time, each.curve, each.portraits) for each in shown],
            Binning(self._first_s, self._last_s - self._first_s + frame_s, frame_s, self._bin_s),
            title=self._source_name or "Expressions over time",
            face_count=len(records) + self._dropped,
            more=more_people_text(
                len(left_out_s) + self._dropped, max([self._dropped_longest_s, *left_out_s])
            ),
        )
        save_figure(figure, self._path)

    @property
    def kept_bytes(self) -> int:
        """Memory of the faces' curves and pictures in bytes."""
        return sum(
            record.curve.kept_bytes + sum(each.rgb.nbytes for each in record.portraits.by_label.values())
            for record in self._records.values()
        )

    def _drop_briefest(self, time_s: float) -> None:
        """Drop half of the faces, but keep those seen longest and those that may still be in view."""
        by_length = sorted(self._records.values(), key=lambda record: -record.time.seen_s)
        for record in by_length[MOST_KEPT_FACES // 2 :]:
            if record.time.last_s < time_s - RETURN_S:
                del self._records[record.time.id]
                self._dropped += 1
                self._dropped_longest_s = max(self._dropped_longest_s, record.time.seen_s)
