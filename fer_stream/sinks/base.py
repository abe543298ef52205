"""The contract of all sinks, and the checks of an output path before any work starts."""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from fer_stream.errors import OutputError, UsageError
from fer_stream.system.files import resolved

if TYPE_CHECKING:
    from typing import Self

    from fer_stream.provenance import Provenance
    from fer_stream.sources import SourceInfo
    from fer_stream.status import Recording, RunStatus
    from fer_stream.types import AnalyzedFrame


@dataclass(frozen=True)
class RunContext:
    """The run that a sink takes part in.

    Attributes:
        source: What is read.
        status: How the run is doing; to be read in the thread of `Sink.write`.
        provenance: What makes the results.
        crop_scale: Side of the network's crop over the longer side of a face's box.
        blurred: Whether the faces in every frame's own picture are hidden.
        saved_video: The annotated video that the same run writes; None without one.
        written_files: Returns the files and folders that the run's sinks have made so far; to be called in
            the thread of `Sink.write`.
    """

    source: SourceInfo
    status: RunStatus
    provenance: Provenance
    crop_scale: float
    blurred: bool
    saved_video: Path | None
    written_files: Callable[[], list[Path]]


class Sink(ABC):
    """Takes analyzed frames, one after the other, and makes something of them.

    A sink checks its output when it is constructed, and is a context manager that finishes its
    files on leaving, also after an error. Everything but `needs_image` is called in one thread.

    Attributes:
        name: The profile's name for it.
        problems: What went wrong without ending the run, a line each.
        stop_requested: Set by a sink whose user wants the run to end.
        saved_video: The annotated video that this sink writes; None if it writes none.
    """

    name: str
    saved_video: Path | None = None

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.stop_requested = False

    def begin(self, context: RunContext) -> None:  # noqa: B027  most sinks know enough already
        """Take in the run that starts; called once, before the first frame.

        Raises:
            OutputError: The output can't be written.
        """

    def needs_image(self, analyzed: AnalyzedFrame) -> bool:
        """Return whether `write` is to get the annotated picture of this frame.

        Called once for each frame, in order, in the thread that draws. It runs some frames ahead of `write`.
        """
        return False

    @abstractmethod
    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None) -> None:
        """Takes the next frame.

        Args:
            analyzed: The frame and its faces.
            image_bgr: The annotated picture, uint8 (H, W, 3); None if `needs_image` returned False.

        Raises:
            OutputError: The output can't be written any further.
        """

    def idle(self) -> None:  # noqa: B027  most sinks have nothing to do
        """Called again and again while no frame comes, in the thread of `write`.

        Raises:
            OutputError: The output can't be written any further.
        """

    def recordings(self) -> list[Recording]:
        """Returns the videos that are being written at present."""
        return []

    @abstractmethod
    def close(self) -> None:
        """Finishes the files. May be called again, and after an error.

        Raises:
            OutputError: The end of the output can't be written. Not raised after `write` has failed.
        """

    @abstractmethod
    def outputs(self) -> list[Path]:
        """Returns the files, or the one folder, that were made so far."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except OutputError:
            # The first error is the one to tell; the one of the clean-up only follows from it.
            if error is None:
                raise


def cannot_write(path: Path | str, error: Exception) -> OutputError:
    """Returns the error that names an output and, in the system's words, why it can't be written."""
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return OutputError(f"can't write {path}: {reason}")


def check_output(
    path: Path | str,
    *,
    overwrite: bool,
    source_path: Path | None,
    extensions: Sequence[str] | None = None,
) -> Path:
    """Checks, before any work starts, that a file can be written; makes its folder if missing.

    Nothing is left behind at `path`, and nothing there is touched.

    Args:
        path: The file to be written.
        overwrite: Whether it may replace a file.
        source_path: The input, which it must not replace; None where the input is no file.
        extensions: The extensions to accept, such as `.csv`; None accepts all.

    Returns:
        `path` as a `Path`.

    Raises:
        UsageError: The extension is none of `extensions`.
        OutputError: The file exists, is the input, is a folder, or can't be written.
    """
    path = Path(path)
    if extensions is not None and path.suffix.lower() not in extensions:
        known = ", ".join(extensions)
        raise UsageError(f"can't tell from its name what {path} is to be; give it one of {known}")
    try:
        exists = path.exists()
        if source_path is not None and _same(path, source_path):
            raise OutputError(f"{path} is the input itself; choose another name for the output")
        if path.is_dir():
            raise OutputError(f"can't write {path}: it is a folder; name a file")
        if exists and not overwrite:
            raise OutputError(f"{path} exists; choose another name, or replace it with --overwrite")
        _make_folder(path.parent)
        _refuse_dead_link(path)
        if exists:
            path.open("ab").close()
        else:
            # Only making the file tells whether that works: permissions, mounts and names all count.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            path.unlink()
    except OSError as error:
        raise OutputError(f"{cannot_write(path, error)}; choose another place") from error
    return path


def check_folder(folder: Path | str, *, overwrite: bool, pattern: str, source_path: Path | None) -> Path:
    """Checks that files can be made in a folder; makes it if missing.

    Args:
        folder: The folder.
        overwrite: Whether files in it may be replaced.
        pattern: Glob of the files to be made, below the folder; one that is there already counts as
            existing output.
        source_path: The input; None where it is no file or folder.

    Returns:
        `folder` as a `Path`.

    Raises:
        OutputError: It holds such files, is the input, is no folder, or can't be written.
    """
    folder = Path(folder)
    try:
        if source_path is not None and _same(folder, source_path):
            raise OutputError(f"{folder} is the input itself; choose another folder for the output")
        _make_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
        found = next(folder.glob(pattern), None)
    except OSError as error:
        raise OutputError(f"{cannot_write(folder, error)}; choose another place") from error
    if found is not None and not overwrite:
        raise OutputError(f"{found} exists; choose another folder, or replace its files with --overwrite")
    return folder


def _make_folder(folder: Path) -> None:
    """Makes a folder and those above it.

    Raises:
        OutputError: A file is in the way.
        OSError: It can't be made.
    """
    in_the_way = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), folder)
    _refuse_dead_link(in_the_way)
    if in_the_way.exists() and not in_the_way.is_dir():
        what = "it" if in_the_way == folder else in_the_way
        raise OutputError(f"can't write into {folder}: {what} is a file; name a folder")
    folder.mkdir(parents=True, exist_ok=True)


def _refuse_dead_link(path: Path) -> None:
    """Refuse a link to itself, or to nothing, with an OutputError."""
    if path.is_symlink() and not path.exists():
        raise OutputError(f"can't write {path}: it is a link that leads nowhere; choose another place")


def _same(path: Path, other: Path) -> bool:
    """Tells whether two paths are one file, also through links, and also where it is not there yet."""
    try:
        return path.samefile(other)
    except OSError:
        return resolved(path) == resolved(other)
