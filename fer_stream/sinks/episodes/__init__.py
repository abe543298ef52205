"""`--episodes`: stretches of one expression on one face, as `.csv`, `.vtt` or `.eaf`.

`builder` joins readings into episodes, `formats` writes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fer_stream.sinks.at_end import AtEndSink
from fer_stream.sinks.episodes.builder import Episode, EpisodeBuilder
from fer_stream.sinks.episodes.formats import EPISODE_COLUMNS, WRITERS, EpisodeList
from fer_stream.sinks.table import printable_source
from fer_stream.sinks.video import clip_start_s

if TYPE_CHECKING:
    from fer_stream.sources import SourceInfo
    from fer_stream.types import AnalyzedFrame

__all__ = ["EPISODE_COLUMNS", "EPISODE_EXTENSIONS", "Episode", "EpisodeBuilder", "EpisodesSink"]

EPISODE_EXTENSIONS = tuple(WRITERS)
_MP4_EXTENSIONS = (".mp4", ".m4v", ".mov")


class EpisodesSink(AtEndSink):
    """Writes the episodes when the source has ended.

    The times of `.csv` count in the source, as in the table. Times in `.vtt` and `.eaf` count in the video
    that they accompany, as players show it: the annotated video of the same run, or else the source.
    """

    name = "episodes"
    needs_frame = False
    extensions = EPISODE_EXTENSIONS
    for_pictures = "--data"

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
        self._builder = EpisodeBuilder(info.interval_s)
        self._source = ""

    def _add(self, analyzed: AnalyzedFrame) -> None:
        self._source = self._source or printable_source(analyzed.frame.source)
        self._builder.add(analyzed)

    def _write_file(self, path: Path, first_s: float) -> None:
        media: Path | None
        if self._saved_video is not None:
            media, media_starts_s = self._saved_video, clip_start_s(self._info, first_s)
        else:
            is_file = self._info.path is not None and self._info.path.is_file()
            media = self._info.path if is_file else None
            # Players take the start of a recording's own clock as 0, except that of an MP4.
            is_mp4 = Path(self._info.name).suffix.lower() in _MP4_EXTENSIONS
            media_starts_s = 0.0 if is_mp4 else self._info.clock_starts_s
        episode_list = EpisodeList(
            self._builder.episodes(), self._source, media, media_starts_s, self._folder, self._provenance
        )
        WRITERS[self._path.suffix.lower()](episode_list, path)
