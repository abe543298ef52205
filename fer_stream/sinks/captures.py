"""Save the stills and recordings that a user asks for during a run, named after the date and time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_stream.errors import OutputError
from fer_stream.sinks.base import check_folder
from fer_stream.sinks.images import write_image
from fer_stream.sinks.video import VideoSink
from fer_stream.sources import SourceKind
from fer_stream.words import clock_text

if TYPE_CHECKING:
    from fer_stream.sources import SourceInfo
    from fer_stream.status import Recording
    from fer_stream.types import AnalyzedFrame


class Captures:
    """Saves stills and recordings of what the window or the page shows. It never replaces a file.

    An error is reported, but the other outputs go on.

    Args:
        folder: The folder for the files. It is made together with the first file.
        info: Facts about the source.
        say: Called with a line that says what was saved, or why it was not.
    """

    def __init__(self, folder: Path, info: SourceInfo, say: Callable[[str], None]) -> None:
        self._folder, self._info, self._say = folder, info, say
        self._video: VideoSink | None = None
        self._made: list[Path] = []
        self.problems: list[str] = []

    @property
    def recording(self) -> bool:
        """True while a recording is running."""
        return self._video is not None

    def save_still(self, image_bgr: np.ndarray) -> None:
        """Save a picture."""
        try:
            path = self._new_path(".jpg")
            write_image(path, image_bgr, overwrite=False)
        except OutputError as error:
            self._fail(error)
            return
        self._made.append(path)
        self._say(f"still saved: {path}")

    def toggle_recording(self, time_s: float) -> None:
        """Start a recording, or end the running one.

        Args:
            time_s: Time of the newest frame in the source.
        """
        if self._video is not None:
            self._stop()
            return
        if self._info.kind == SourceKind.IMAGES:
            self._say("pictures can't be recorded; s saves a still")
            return
        try:
            # The clip starts now, at 0, and so does its sound.
            start_s = max(time_s, self._info.start_s)
            self._video = VideoSink(self._new_path(".mp4"), replace(self._info, start_s=start_s))
        except OutputError as error:
            self._fail(error)

    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray) -> None:
        """Add a frame to the recording, if one is running."""
        if self._video is None:
            return
        is_first = not self._video.outputs()
        try:
            self._video.write(analyzed, image_bgr)
        except OutputError as error:
            self._fail(error)
            self._stop()
            return
        if is_first:
            self._say(f"recording {self._video.outputs()[0]}")

    def close(self) -> None:
        """End the recording, if one is running."""
        if self._video is not None:
            self._stop()

    def recordings(self) -> list[Recording]:
        """Return the recording, if one is running."""
        return [] if self._video is None else self._video.recordings()

    def outputs(self) -> list[Path]:
        """Return the files that were made, including the one that is being written."""
        return self._made + ([] if self._video is None else self._video.outputs())

    def _stop(self) -> None:
        video, self._video = self._video, None
        assert video is not None
        length = "".join(f", {clock_text(entry.duration_s)}" for entry in video.recordings())
        try:
            video.close()
        except OutputError as error:
            self._fail(error)
        self._made += video.outputs()
        self.problems += video.problems
        if length:
            self._say(f"recording saved: {video.outputs()[0]}{length}")

    def _fail(self, error: OutputError) -> None:
        self.problems.append(str(error))
        self._say(str(error))

    def _new_path(self, extension: str) -> Path:
        """Return a path that does not exist yet, such as `fer-stream_2026-01-31_14-05-09.jpg`."""
        check_folder(self._folder, overwrite=True, pattern="*", source_path=None)
        stem = f"fer-stream_{datetime.now():%Y-%m-%d_%H-%M-%S}"
        path, number = self._folder / f"{stem}{extension}", 1
        while path.exists():
            number += 1
            path = self._folder / f"{stem}-{number}{extension}"
        return path
