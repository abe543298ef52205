"""The interface of all sinks, and the checks of an output path before any work starts."""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_stream.errors import OutputError, UsageError, cannot_write
from fer_stream.system.files import resolved, unreadable_kind
from fer_stream.words import any_of

if TYPE_CHECKING:
    from typing import Self

    from fer_stream.sinks.provenance import Provenance
    from fer_stream.sources import SourceInfo
    from fer_stream.status import Recording, RunStatus
    from fer_stream.types import AnalyzedFrame


@dataclass(frozen=True)
class RunContext:
    """The run that a sink takes part in.

    Attributes:
        source: Facts about the source.
        status: State of the run. Read it in the thread of `Sink.write`.
        provenance: Program, weights and options that produce the results.
        crop_scale: Side of the network's crop, relative to the longer side of a face's box.
        blurred: Whether the faces in every frame's own picture are hidden.
        saved_video: The annotated video that the same run writes; None if it writes none.
        written_files: Returns the files and folders that the run's sinks have made so far. Call it in the
            thread of `Sink.write`.
    """

    source: SourceInfo
    status: RunStatus
    provenance: Provenance
    crop_scale: float
    blurred: bool
    saved_video: Path | None
    written_files: Callable[[], list[Path]]


class Sink(ABC):
    """Receives analyzed frames, one after the other, and writes or shows something.

    A sink checks its output when it is constructed, and serves one run. It is a context manager that finishes
    its files on leaving, also after an error. `needs_image` and `prepare` are called in the thread that
    draws, some frames ahead of `write`. Everything else is called in one thread.

    Attributes:
        name: Name in the profile.
        needs_frame: Whether `write` reads the pixels of the frame without annotations, `frame.bgr`. If no
            sink does, the annotated picture replaces it once it is drawn, to save memory.
        problems: Problems that did not end the run, a line each.
        stop_requested: Set by the sink when its user wants the run to end.
        saved_video: The annotated video that this sink writes; None if it writes none.
    """

    name: str
    needs_frame = True
    saved_video: Path | None = None

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.stop_requested = False

    def begin(self, context: RunContext) -> None:  # noqa: B027  most sinks need nothing from the run
        """Receive the context of the run. Called once, before the first `write`.

        Raises:
            OutputError: The output can't be written.
        """

    def needs_image(self, analyzed: AnalyzedFrame) -> bool:
        """Return whether `write` needs the annotated picture of this frame.

        Called once for each frame, in order.
        """
        return False

    def prepare(self, image_bgr: np.ndarray) -> Any:
        """Return what `write` receives as the annotated picture; by default, the picture itself.

        Override this to convert a picture while `write` still works on an earlier one.

        Args:
            image_bgr: The annotated picture, uint8 (H, W, 3). Other sinks get the same array, so it must not
                change.

        Raises:
            OutputError: The picture can't be converted.
        """
        return image_bgr

    @abstractmethod
    def write(self, analyzed: AnalyzedFrame, image: Any) -> None:
        """Receive the next frame.

        Args:
            analyzed: The frame and its faces.
            image: The annotated picture as `prepare` returned it, by default uint8 (H, W, 3), BGR. None if
                `needs_image` returned False.

        Raises:
            OutputError: The output can't be written any further.
        """

    def idle(self) -> None:  # noqa: B027  most sinks have nothing to do
        """Do pending work while no frame comes. Called repeatedly, in the thread of `write`.

        Raises:
            OutputError: The output can't be written any further.
        """

    def recordings(self) -> list[Recording]:
        """Return the videos that are being written."""
        return []

    @abstractmethod
    def close(self) -> None:
        """Finish the files. May be called again, and after an error.

        Raises:
            OutputError: The end of the output can't be written. Not raised if `write` has failed.
        """

    @abstractmethod
    def outputs(self) -> list[Path]:
        """Return the files or folders that were made so far."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: object, _traceback: object) -> None:
        try:
            self.close()
        except OutputError:
            # The first error matters. An error while closing is only its consequence.
            if error is None:
                raise


def closed_error(path: Path | str) -> OutputError:
    """Return the error of a sink that is written to after it was closed."""
    return OutputError(f"can't write {path}: it is closed; make a new sink for each run")


def check_output(
    path: Path | str,
    *,
    overwrite: bool,
    source_path: Path | None,
    extensions: Sequence[str] | None = None,
) -> Path:
    """Check before any work starts that a file can be written. Make its folder if it is missing.

    An existing file stays as it is, and no new file is left behind.

    Args:
        path: The file to be written.
        overwrite: Whether an existing file may be replaced.
        source_path: The input, which must not be replaced; None if it is not a file.
        extensions: Accepted extensions, such as `.csv`; None accepts all.

    Returns:
        `path` as a `Path`.

    Raises:
        UsageError: The extension is not accepted.
        OutputError: The file exists, is the input, is a folder, or can't be written.
    """
    path = Path(path)
    if extensions is not None and path.suffix.lower() not in extensions:
        raise UsageError(f"can't write {path}: its name should end in {any_of(extensions)}")
    try:
        exists = path.exists()
        if source_path is not None and _is_same_file(path, source_path):
            raise OutputError(f"{path} is the input itself; choose another name for the output")
        if path.is_dir():
            raise OutputError(f"can't write {path}: it is a folder; name a file")
        if exists and not overwrite:
            raise OutputError(f"{path} exists; choose another name, or replace it with --overwrite")
        if exists and unreadable_kind(path) == "a pipe" and os.path.lexists(resolved(path)):
            # Writing would wait until somebody reads. A shell's own pipes, as in /dev/stdout, have no name.
            raise OutputError(f"can't write {path}: it is a pipe, not a regular file; name a file")
        _make_folder(path.parent)
        _refuse_dead_link(path)
        if exists:
            path.open("ab").close()
        else:
            # Making the file is the only reliable test: permissions, mounts and names all count.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            path.unlink()
    except OSError as error:
        raise OutputError(f"{cannot_write(path, error)}; choose another place") from error
    return path


def check_folder(folder: Path | str, *, overwrite: bool, pattern: str, source_path: Path | None) -> Path:
    """Check that files can be made in a folder. Make the folder if it is missing.

    Args:
        folder: The folder.
        overwrite: Whether files in it may be replaced.
        pattern: Glob of the files to be made, relative to the folder. A file that matches it counts as
            existing output.
        source_path: The input; None if it is not a file or folder.

    Returns:
        `folder` as a `Path`.

    Raises:
        OutputError: The folder contains such files, is the input, is not a folder, or can't be written.
    """
    folder = Path(folder)
    try:
        if source_path is not None and _is_same_file(folder, source_path):
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
    """Make a folder and its parents.

    Raises:
        OutputError: A file is in the way.
        OSError: The folder can't be made.
    """
    nearest = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), folder)
    _refuse_dead_link(nearest)
    if nearest.exists() and not nearest.is_dir():
        what = "it" if nearest == folder else nearest
        raise OutputError(f"can't write into {folder}: {what} is a file; name a folder")
    folder.mkdir(parents=True, exist_ok=True)


def _refuse_dead_link(path: Path) -> None:
    """Raise an OutputError for a link that leads to itself or to nothing."""
    if path.is_symlink() and not path.exists():
        raise OutputError(f"can't write {path}: it is a link that leads nowhere; choose another place")


def _is_same_file(path: Path, other: Path) -> bool:
    """Return whether two paths are the same file, also through links and before the file exists."""
    try:
        return path.samefile(other)
    except OSError:
        return resolved(path) == resolved(other)
