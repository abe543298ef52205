"""`--report`: one self-contained HTML file about a recording.

`people` collects each person's data, `page` fills the page with it, and `static` holds the page itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fer_stream.face_time import FrameClock, PeopleTime
from fer_stream.sinks.at_end import AtEndSink
from fer_stream.sinks.curves import Curves
from fer_stream.sinks.episodes.builder import EpisodeBuilder
from fer_stream.sinks.report.page import SavedVideo, report_content, report_page
from fer_stream.sinks.report.thumbnails import Thumbnails
from fer_stream.sinks.video import clip_start_s
from fer_stream.system.background import Task

if TYPE_CHECKING:
    from fer_stream.sinks.base import RunContext
    from fer_stream.sources import SourceInfo
    from fer_stream.types import AnalyzedFrame

__all__ = ["REPORT_EXTENSIONS", "ReportSink"]

REPORT_EXTENSIONS = (".html", ".htm")


class ReportSink(AtEndSink):
    """Writes the report when the source has ended.

    If the same run saves an annotated video, the report plays it through a relative link. Faces that `--blur`
    hides are hidden in the thumbnails as well, because thumbnails are cut out of the blurred frames.
    """

    name = "report"
    extensions = REPORT_EXTENSIONS
    for_pictures = "--chart"

    def __init__(
        self,
        path: Path | str,
        info: SourceInfo,
        *,
        overwrite: bool = False,
        placed_at: Path | None = None,
    ) -> None:
        """Check the path. See `AtEndSink`."""
        super().__init__(path, info, overwrite=overwrite, placed_at=placed_at)
        self._blurred = False
        self._builder, self._clock = EpisodeBuilder(info.interval_s), FrameClock(info.interval_s)
        self._people = PeopleTime(bounded=False)
        self._curves, self._thumbnails = Curves(), Thumbnails()
        self._frames = 0
        self._last_s = 0.0
        self._hashing: Task[str] | None = None

    def begin(self, context: RunContext) -> None:
        """Remember the run, and start to hash the source in the background. See `Sink.begin`."""
        super().begin(context)
        self._blurred = context.blurred
        self._hashing = Task(lambda: context.provenance.source_sha256)

    def close(self) -> None:
        """Wait for the source's hash, and write the file. See `Sink.close`."""
        if self._hashing is not None:
            self._hashing.result()
            self._hashing.close()
            self._hashing = None
        super().close()

    def _add(self, analyzed: AnalyzedFrame) -> None:
        time_s = analyzed.frame.time_s
        self._frames += 1
        self._last_s = max(self._last_s, time_s)
        self._builder.add(analyzed)
        self._people.add(analyzed.faces, self._clock.step_s(time_s), time_s)
        self._curves.add(analyzed)
        self._thumbnails.add(analyzed)

    def _write_file(self, path: Path, first_s: float) -> None:
        video = None
        if self._saved_video is not None:
            video = SavedVideo(self._saved_video, self._folder, clip_start_s(self._info, first_s))
        content = report_content(
            info=self._info,
            provenance=self._provenance,
            blurred=self._blurred,
            span_s=(first_s, self._last_s),
            frames=self._frames,
            frame_s=self._clock.interval_s,
            people=list(self._people.by_id.values()),
            episodes=self._builder.episodes(),
            curves=self._curves,
            thumbnails=self._thumbnails,
            video=video,
        )
        path.write_bytes(report_page(content).encode())
