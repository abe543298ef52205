"""`--episodes`: stretches of one expression on one face, as `.csv`, `.vtt` or `.eaf`.

`builder` joins readings into episodes, `formats` writes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_stream.errors import UsageError, cannot_write
from fer_stream.face_time import average_interval_s
from fer_stream.sinks.base import Sink, check_output
from fer_stream.sinks.episodes.builder import Episode, EpisodeBuilder
from fer_stream.sinks.episodes.formats import EPISODE_COLUMNS, WRITERS, EpisodeList
from fer_stream.sinks.provenance import Provenance
from fer_stream.sinks.table import printable_source
from fer_stream.sinks.video import clip_start_s
from fer_stream.sources import SourceKind
from fer_stream.system.files import replacing

if TYPE_CHECKING:
    from fer_stream.sinks.base import RunContext
    from fer_stream.sources import SourceInfo
    from fer_stream.types import AnalyzedFrame

__all__ = ["EPISODE_COLUMNS", "EPISODE_EXTENSIONS", "Episode", "EpisodeBuilder", "EpisodesSink"]

EPISODE_EXTENSIONS = tuple(WRITERS)


class EpisodesSink(Sink):
    """Writes the episodes when the source has ended.

    The times of `.csv` count in the source, as in the table. Those of `.vtt` and `.eaf` are on the clock of
    the video that belongs beside them: the annotated video of the same run, else the source.
    """

    name = "episodes"

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
            raise UsageError("--episodes is about a video or a camera; use --data for pictures")
        self._path = check_output(
            path, overwrite=overwrite, source_path=info.path, extensions=EPISODE_EXTENSIONS
        )
        self._info = info
        self._folder = (placed_at or self._path).parent
        self._builder = EpisodeBuilder(average_interval_s(info.frame_rate))
        self._provenance = Provenance()
        self._saved_video: Path | None = None
        self._source = ""
        self._first_s: float | None = None
        self._closed = False

    def begin(self, context: RunContext) -> None:
        """Take note of the video beside which the episodes are read. See `Sink.begin`."""
        self._provenance, self._saved_video = context.provenance, context.saved_video

    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None = None) -> None:
        """Take in one frame. See `Sink.write`."""
        if self._first_s is None:
            self._first_s, self._source = analyzed.frame.time_s, printable_source(analyzed.frame.source)
        self._builder.add(analyzed)

    def close(self) -> None:
        """Write the file. See `Sink.close`."""
        if self._closed or self._first_s is None:
            return
        self._closed = True
        media: Path | None
        if self._saved_video is not None:
            media, media_starts_s = self._saved_video, clip_start_s(self._info, self._first_s)
        else:
            is_file = self._info.path is not None and self._info.path.is_file()
            media, media_starts_s = self._info.path if is_file else None, 0.0
        found = EpisodeList(
            self._builder.episodes(), self._source, media, media_starts_s, self._folder, self._provenance
        )
        try:
            with replacing(self._path) as temporary:
                WRITERS[self._path.suffix.lower()](found, temporary)
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def outputs(self) -> list[Path]:
        """Return the file, once it is written."""
        return [self._path] if self._closed else []
