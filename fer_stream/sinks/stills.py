"""Annotated pictures: those of an image source, and stills of a video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_stream.errors import UsageError
from fer_stream.sinks.base import Sink, check_folder, check_output
from fer_stream.sinks.images import IMAGE_EXTENSIONS, write_image
from fer_stream.sinks.video import VIDEO_EXTENSIONS
from fer_stream.sources.images import images_in_folder, images_of_glob

if TYPE_CHECKING:
    from fer_stream.sources import SourceInfo
    from fer_stream.types import AnalyzedFrame

# A face that has not been seen for so long is forgotten: when it comes back it counts as new.
FORGET_AFTER_S = 60.0


class ImageSink(Sink):
    """Writes the annotated pictures of an image source.

    One picture goes to the file that was named. Several go into a folder, each under its own name;
    where two have the same name, or would get it, the second becomes `name-2.jpg`. A kind of picture
    that can't be written (`.gif`) becomes `.png`.
    """

    name = "image"
    needs_image = True

    def __init__(self, path: Path | str, info: SourceInfo, *, overwrite: bool = False) -> None:
        """Checks the file or the folder; makes folders that are missing.

        Args:
            path: A file for one picture, a folder for several.
            info: What is read.
            overwrite: Whether existing pictures are replaced.

        Raises:
            UsageError: A file for several pictures, or no known extension for one.
            OutputError: A file exists, is the input, or can't be written.
        """
        path = Path(path)
        is_file = info.path is not None and info.path.is_file()
        names_file = path.suffix.lower() in IMAGE_EXTENSIONS and not path.is_dir()
        if names_file and not is_file and info.frame_count != 1:
            count = "several" if info.frame_count is None else info.frame_count
            raise UsageError(f"{path} is one picture but the source has {count}; name a folder for them")
        if not (names_file or is_file) and path.suffix.lower() in VIDEO_EXTENSIONS and not path.is_dir():
            raise UsageError(f"{path} is a video but the source is pictures; name a folder for them")
        self._overwrite = overwrite
        self._names: dict[str, str] = {}
        self._used_names: set[str] = set()
        self._written: list[Path] = []
        self._file: Path | None = None
        self._folder = path
        if names_file or is_file:
            self._file = check_output(
                path, overwrite=overwrite, source_path=info.path, extensions=IMAGE_EXTENSIONS
            )
            return
        source_folder = info.path if info.path is not None and info.path.is_dir() else None
        check_folder(path, overwrite=True, pattern="*", source_path=source_folder)
        for source in images_in_folder(source_folder) if source_folder else images_of_glob(info.name):
            self._names[str(source)] = self._free_name(str(source))
            check_output(path / self._names[str(source)], overwrite=overwrite, source_path=source)

    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None) -> None:
        """Writes one picture. See `Sink.write`."""
        if image_bgr is None:
            raise ValueError("an image sink needs the annotated picture")
        source = analyzed.frame.source
        path = self._file or self._folder / (self._names.get(source) or self._free_name(source))
        write_image(path, image_bgr, overwrite=self._overwrite)
        self._written.append(path)

    def close(self) -> None:
        """Does nothing: every picture is finished when written."""

    def outputs(self) -> list[Path]:
        """Returns the file, or the folder once it holds a picture."""
        if self._file is None:
            return [self._folder] if self._written else []
        return self._written[:1]

    def _free_name(self, source: str) -> str:
        """Returns the name of a source's picture, with a number where another one has it."""
        wanted = Path(_picture_name(source))
        name, number = wanted.name, 1
        # Upper and lower case are one on most people's file systems.
        while name.casefold() in self._used_names:
            number += 1
            name = f"{wanted.stem}-{number}{wanted.suffix}"
        self._used_names.add(name.casefold())
        return name


def _picture_name(source: str) -> str:
    """Returns the file name for a source's picture, with an extension that can be written."""
    name = Path(source)
    return name.name if name.suffix.lower() in IMAGE_EXTENSIONS else f"{name.stem or 'picture'}.png"


@dataclass
class _Known:
    """What is known of one face.

    Attributes:
        label: The expression that counted last; None for a face that has not counted yet.
        candidate: The other expression that it shows at present; None if none.
        since_s: Since when it shows the candidate.
        seen_s: When it was seen last.
    """

    label: str | None
    candidate: str | None
    since_s: float
    seen_s: float


class StillsSink(Sink):
    """Writes annotated stills, every so often and when a face's expression changes.

    A face counts as changed when it is new, or shows another expression than the one that counted
    last, and has held that expression without a break for `hold_s`. Flicker between two labels
    therefore gives no still, and the still shows the new expression established, `hold_s` late.

    Stills are named after their place in the source, and sort by it:
    `frame-000123_00-00-05.120.jpg` is frame 123, at 5.12 seconds.
    """

    name = "stills"
    needs_image = True

    def __init__(
        self,
        folder: Path | str,
        *,
        every_s: float | None = None,
        on_change: bool = True,
        hold_s: float = 0.3,
        overwrite: bool = False,
    ) -> None:
        """Checks the folder and makes it if missing.

        Args:
            folder: Where the stills go.
            every_s: Seconds of source time from one still to the next, the first frame being the
                first; None for none of these.
            on_change: Whether a change of expression gives a still.
            hold_s: Seconds of source time that a change must last. 0 suits pictures, which last none.
            overwrite: Whether existing stills are replaced.

        Raises:
            UsageError: `every_s` is not above 0.
            OutputError: The folder can't be written, or holds stills and `overwrite` is False.
        """
        if every_s is not None and not every_s > 0:
            raise UsageError(f"stills every {every_s:g} seconds can't be made; give a number above 0")
        self._folder = check_folder(folder, overwrite=overwrite, pattern="frame-*.jpg", source_path=None)
        self._every_s = every_s
        self._on_change = on_change
        self._hold_s = hold_s
        self._overwrite = overwrite
        self._first_s: float | None = None
        self._next_tick = 0
        self._known: dict[int, _Known] = {}
        self._count = 0

    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None) -> None:
        """Writes the frame if it is due. See `Sink.write`."""
        if image_bgr is None:
            raise ValueError("a stills sink needs the annotated picture")
        changed = self._on_change and self._changed(analyzed)
        if self._due(analyzed.frame.time_s) or changed:
            name = f"frame-{analyzed.frame.index:06d}_{_clock(analyzed.frame.time_s)}.jpg"
            write_image(self._folder / name, image_bgr, overwrite=self._overwrite)
            self._count += 1

    def close(self) -> None:
        """Does nothing: every still is finished when written."""

    def outputs(self) -> list[Path]:
        """Returns the folder, once it holds a still."""
        return [self._folder] if self._count else []

    def _due(self, time_s: float) -> bool:
        """Tells whether the next multiple of `every_s` has come."""
        if self._every_s is None:
            return False
        if self._first_s is None:
            self._first_s = time_s
        # A microsecond of slack: 5.999999... seconds are 6.
        tick = int((time_s - self._first_s + 1e-6) / self._every_s)
        if tick < self._next_tick:
            return False
        self._next_tick = tick + 1
        return True

    def _changed(self, analyzed: AnalyzedFrame) -> bool:
        """Takes note of the faces and tells whether one of them has changed."""
        now_s = analyzed.frame.time_s
        changed = False
        for face in analyzed.faces:
            known = self._known.setdefault(face.id, _Known(None, None, now_s, now_s))
            absent = now_s - known.seen_s > max(self._hold_s, 0.5)
            known.seen_s = now_s
            if face.expression == known.label:
                known.candidate = None
                continue
            if face.expression != known.candidate or absent:
                known.candidate, known.since_s = face.expression, now_s
            if now_s - known.since_s >= self._hold_s - 1e-6:
                known.label, known.candidate = face.expression, None
                changed = True
        gone = [id_ for id_, known in self._known.items() if now_s - known.seen_s > FORGET_AFTER_S]
        for id_ in gone:
            del self._known[id_]
        return changed


def _clock(time_s: float) -> str:
    """Returns a time as a part of a file name, `HH-MM-SS.mmm`."""
    total_ms = max(0, round(time_s * 1000))
    seconds, milliseconds = divmod(total_ms, 1000)
    return f"{seconds // 3600:02d}-{seconds // 60 % 60:02d}-{seconds % 60:02d}.{milliseconds:03d}"
