"""The base of sinks that write one file about a recording when it has ended."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from fer_stream.errors import UsageError, cannot_write
from fer_stream.sinks.base import Sink, check_output, closed_error
from fer_stream.sinks.provenance import Provenance
from fer_stream.sources import SourceKind
from fer_stream.system.files import replacing

if TYPE_CHECKING:
    from fer_stream.sinks.base import RunContext
    from fer_stream.sources import SourceInfo
    from fer_stream.types import AnalyzedFrame


class AtEndSink(Sink):
    """Collects results while a recording is analyzed, and writes one file when it has ended.

    Subclasses collect in `_add` and write in `_write_file`.

    Attributes:
        extensions: Accepted extensions.
        for_pictures: The option that a user should choose for pictures instead.
    """

    extensions: ClassVar[Sequence[str]]
    for_pictures: ClassVar[str]

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
            info: Facts about the source.
            overwrite: Whether an existing file is replaced.
            placed_at: Final path of the file, if it is written to another place first.

        Raises:
            UsageError: The extension is unknown, or the source is pictures.
            OutputError: The file exists, is the input, or can't be written.
        """
        super().__init__()
        if info.kind == SourceKind.IMAGES:
            raise UsageError(
                f"--{self.name} is about a video or a camera; use {self.for_pictures} for pictures"
            )
        self._path = check_output(
            path, overwrite=overwrite, source_path=info.path, extensions=self.extensions
        )
        self._info = info
        self._folder = (placed_at or self._path).parent
        self._provenance = Provenance()
        self._saved_video: Path | None = None
        self._first_s: float | None = None
        self._closed = self._written = False

    def begin(self, context: RunContext) -> None:
        """Remember the provenance and the video that the same run writes. See `Sink.begin`."""
        self._provenance, self._saved_video = context.provenance, context.saved_video

    def write(self, analyzed: AnalyzedFrame, image_bgr: object = None) -> None:
        """Add one frame. See `Sink.write`."""
        if self._closed:
            raise closed_error(self._path)
        if self._first_s is None:
            self._first_s = analyzed.frame.time_s
        self._add(analyzed)

    def close(self) -> None:
        """Write the file, if there was a frame. See `Sink.close`."""
        if self._closed:
            return
        self._closed = True
        if self._first_s is None:
            return
        try:
            with replacing(self._path) as temporary:
                self._write_file(temporary, self._first_s)
        except OSError as error:
            raise cannot_write(self._path, error) from error
        self._written = True

    def outputs(self) -> list[Path]:
        """Return the file, once it is written."""
        return [self._path] if self._written else []

    @abstractmethod
    def _add(self, analyzed: AnalyzedFrame) -> None:
        """Add one frame."""

    @abstractmethod
    def _write_file(self, path: Path, first_s: float) -> None:
        """Write the file.

        Args:
            path: A temporary path.
            first_s: Time of the first frame.

        Raises:
            OSError: It can't be written.
        """
