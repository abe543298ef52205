"""`--chart`: a picture beside the bars of its faces, or the timeline of a video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_stream.rendering.charts import Timeline, face_chart
from fer_stream.rendering.plotting import CHART_SUFFIXES, load_matplotlib
from fer_stream.sinks.base import Sink, check_output, closed_error
from fer_stream.sinks.images import PicturesSink
from fer_stream.system.background import Task

if TYPE_CHECKING:
    from fer_stream.sources import SourceInfo
    from fer_stream.types import AnalyzedFrame


class FaceChartSink(PicturesSink):
    """Writes a chart for each picture of an image source: the picture beside the bars of its faces.

    Charts in a folder are PNG files, named after the picture with its extension: `portrait.jpg.png`.
    """

    name = "chart"
    what = "chart"
    extensions = CHART_SUFFIXES

    def _name_of(self, source: str) -> str:
        return f"{Path(source).name}.png"

    def _write_file(self, path: Path, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None) -> None:
        face_chart(analyzed.frame.bgr, analyzed.faces, path)


class TimelineSink(Sink):
    """Draws the timeline of a video at its end: every face's probabilities over time."""

    name = "chart"

    def __init__(self, path: Path | str, info: SourceInfo, *, overwrite: bool = False) -> None:
        """Check the path.

        Raises:
            UsageError: The extension is unknown.
            OutputError: The file exists, is the input, or can't be written.
        """
        super().__init__()
        self._path = check_output(path, overwrite=overwrite, source_path=info.path, extensions=CHART_SUFFIXES)
        self._timeline = Timeline(
            self._path,
            source_name=Path(info.name).name or info.name,
            interval_s=info.interval_s,
        )
        self._closed = self._written = False
        # matplotlib loads while the first frames are analyzed, so that the end (or Ctrl-C) needn't wait for
        # it.
        self._loading: Task[None] | None = None

    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None = None) -> None:
        """Add one frame to the timeline. See `Sink.write`."""
        if self._closed:
            raise closed_error(self._path)
        if self._loading is None:
            self._loading = Task(load_matplotlib)
        self._timeline.add(analyzed)

    def close(self) -> None:
        """Draw the timeline. See `Sink.close`."""
        if self._closed:
            return
        self._closed = True
        if self._loading is not None:
            self._loading.close()
            self._timeline.save()
            self._written = True

    def outputs(self) -> list[Path]:
        """Return the file, once it is drawn."""
        return [self._path] if self._written else []
