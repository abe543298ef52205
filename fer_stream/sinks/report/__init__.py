"""`--report`: one self-contained HTML file about a recording.

`people` gathers what it shows, `page` puts it into the page, `static` holds the page itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_stream.errors import UsageError, cannot_write
from fer_stream.face_time import FrameClock, PersonTime, average_interval_s
from fer_stream.sinks.base import Sink, check_output
from fer_stream.sinks.episodes.builder import EpisodeBuilder
from fer_stream.sinks.provenance import Provenance
from fer_stream.sinks.report.page import SavedVideo, report_content, report_page
from fer_stream.sinks.report.people import Curves, Thumbnails
from fer_stream.sinks.video import clip_start_s
from fer_stream.sources import SourceKind
from fer_stream.system.background import Task
from fer_stream.system.files import replacing

if TYPE_CHECKING:
    from fer_stream.sinks.base import RunContext
    from fer_stream.sources import SourceInfo
    from fer_stream.types import AnalyzedFrame

__all__ = ["REPORT_EXTENSIONS", "ReportSink"]

REPORT_EXTENSIONS = (".html", ".htm")


class ReportSink(Sink):
    """Writes the report when the source has ended.

    With an annotated video in the same run, the report plays it by a relative link. Faces that `--blur` hides
    are hidden in the thumbnails as well, because these come from the frame's own picture.
    """

    name = "report"

    def __init__(
        self,
        path: Path | str,
        info: SourceInfo,
        *,
        overwrite: bool = False,
        placed_at: Path | None = None,
    ) -> None:
        """Check the path.

        Args:
            path: The file.
            info: What is read.
            overwrite: Whether an existing file is replaced.
            placed_at: Where the file will be in the end, if it is written elsewhere first.

        Raises:
            UsageError: The extension is unknown, or the source is pictures.
            OutputError: The file exists, is the input, or can't be written.
        """
        super().__init__()
        if info.kind == SourceKind.IMAGES:
            raise UsageError("--report is about a video or a camera; use --chart for pictures")
        self._path = check_output(
            path, overwrite=overwrite, source_path=info.path, extensions=REPORT_EXTENSIONS
        )
        self._info = info
        self._placed_at = placed_at or self._path
        self._provenance = Provenance()
        self._saved_video: Path | None = None
        self._blurred = False
        interval_s = average_interval_s(info.frame_rate)
        self._builder, self._clock = EpisodeBuilder(interval_s), FrameClock(interval_s)
        self._people: dict[int, PersonTime] = {}
        self._curves, self._thumbnails = Curves(), Thumbnails()
        self._frames = 0
        self._first_s = self._last_s = 0.0
        self._written = self._closed = False
        self._hashing: Task[str] | None = None

    def begin(self, context: RunContext) -> None:
        """Take in the run; the source's hash is computed beside it. See `Sink.begin`."""
        self._provenance, self._blurred = context.provenance, context.blurred
        self._saved_video = context.saved_video
        self._hashing = Task(lambda: context.provenance.source_sha256)

    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None = None) -> None:
        """Take in one frame. See `Sink.write`."""
        if not self._frames:
            self._first_s = analyzed.frame.time_s
        self._frames += 1
        self._last_s = max(self._last_s, analyzed.frame.time_s)
        self._builder.add(analyzed)
        step_s = self._clock.step_s(analyzed.frame.time_s)
        for face in analyzed.faces:
            person = self._people.setdefault(face.id, PersonTime(face.id))
            person.add(face.label, step_s, analyzed.frame.time_s)
        self._curves.add(analyzed)
        self._thumbnails.add(analyzed)

    def close(self) -> None:
        """Write the file. See `Sink.close`."""
        if self._closed:
            return
        self._closed = True
        if self._hashing is not None:
            self._hashing.result()  # until it is known
            self._hashing.close()
        if not self._frames:
            return
        video = None
        if self._saved_video is not None:
            starts_s = clip_start_s(self._info, self._first_s)
            video = SavedVideo(self._saved_video, self._placed_at.parent, starts_s)
        content = report_content(
            info=self._info,
            provenance=self._provenance,
            blurred=self._blurred,
            span_s=(self._first_s, self._last_s),
            frames=self._frames,
            people=list(self._people.values()),
            episodes=self._builder.episodes(),
            curves=self._curves,
            thumbnails=self._thumbnails,
            video=video,
        )
        try:
            with replacing(self._path) as temporary:
                temporary.write_bytes(report_page(content).encode())
        except OSError as error:
            raise cannot_write(self._path, error) from error
        self._written = True

    def outputs(self) -> list[Path]:
        """Return the file, once it is written."""
        return [self._path] if self._written else []
