"""Write a file for each picture of an image source."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import cv2
import numpy as np

from fer_stream.errors import OutputError, UsageError, cannot_write
from fer_stream.sinks.base import Sink, check_folder, check_output
from fer_stream.sinks.video import VIDEO_EXTENSIONS
from fer_stream.sources.images import images_of_source
from fer_stream.system.files import file_identities, replacing

if TYPE_CHECKING:
    from fer_stream.sources import SourceInfo
    from fer_stream.types import AnalyzedFrame

QUALITY = 95
_OPTIONS = {
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, QUALITY],
    ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, QUALITY],
    ".webp": [cv2.IMWRITE_WEBP_QUALITY, QUALITY],
}
IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


class PicturesSink(Sink):
    """Writes a file for each picture of an image source. All output files are checked before any work starts.

    One picture goes to the named file, or into a folder if that exists or the name has no extension. Several
    pictures, or those of a folder or glob, go into a folder. If two would get the same name, the second
    becomes `name-2.jpg`.

    Attributes:
        what: Name of a file in messages, such as "chart".
        extensions: Accepted extensions of a file.
    """

    what: ClassVar[str]
    extensions: ClassVar[Sequence[str]]

    def __init__(self, path: Path | str, info: SourceInfo, *, overwrite: bool = False) -> None:
        """Check the file, or the folder and every file that goes into it. Make missing folders.

        Args:
            path: A file for one picture, otherwise a folder.
            info: Facts about the image source.
            overwrite: Whether existing outputs are replaced.

        Raises:
            UsageError: A file is named for several pictures, or its extension is unknown.
            OutputError: An output exists, is an input, or can't be written.
        """
        super().__init__()
        self._path = path = Path(path)
        self._overwrite = overwrite
        self._made = False
        self._names: dict[str, str] = {}
        self._used_names: set[str] = set()
        is_file = info.path is not None and info.path.is_file()
        names_folder = path.is_dir() or not path.suffix
        names_file = path.suffix.lower() in self.extensions and not names_folder
        if names_file and not is_file and info.frame_count != 1:
            count = "several" if info.frame_count is None else info.frame_count
            raise UsageError(f"{path} is one {self.what} but the source has {count}; name a folder for them")
        if not (names_file or is_file) and path.suffix.lower() in VIDEO_EXTENSIONS and not names_folder:
            raise UsageError(f"{path} is a video but the source is pictures; name a folder for them")
        self._is_file = names_file or (is_file and not names_folder)
        images = images_of_source(info)
        files: list[Path | None] = [*images] or [None]  # no file: an address
        if self._is_file:
            check_output(path, overwrite=overwrite, source_path=files[0], extensions=self.extensions)
            return
        check_folder(path, overwrite=True, pattern="*", source_path=info.path)
        inputs = file_identities(images)
        for file in files:
            output = self._path_of(str(file or info.name))
            check_output(output, overwrite=overwrite, source_path=file)
            if file_identities([output]) & inputs:
                raise OutputError(f"{output} is an input itself; choose another folder for the output")

    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None = None) -> None:
        """Write the file of one picture. See `Sink.write`."""
        self._write_file(self._path_of(analyzed.frame.source), analyzed, image_bgr)
        self._made = True

    def close(self) -> None:
        """Do nothing: every file is finished when written."""

    def outputs(self) -> list[Path]:
        """Return the file or the folder, once something is written."""
        return [self._path] if self._made else []

    @abstractmethod
    def _name_of(self, source: str) -> str:
        """Return the name of a file in a folder, for the path of its picture."""

    @abstractmethod
    def _write_file(self, path: Path, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None) -> None:
        """Write the file of one picture.

        Raises:
            OutputError: It can't be written.
        """

    def _path_of(self, source: str) -> Path:
        """Return the output file of a picture, the same each time."""
        if self._is_file:
            return self._path
        if source not in self._names:
            self._names[source] = self._free_name(self._name_of(source))
        return self._path / self._names[source]

    def _free_name(self, wanted: str) -> str:
        """Return a name that no other picture has, with a number if needed."""
        name, number = wanted, 1
        # Many file systems do not distinguish upper and lower case.
        while name.casefold() in self._used_names:
            number += 1
            name = f"{Path(wanted).stem}-{number}{Path(wanted).suffix}"
        self._used_names.add(name.casefold())
        return name


class ImageSink(PicturesSink):
    """Writes the annotated pictures of an image source, under their own names in a folder."""

    name = "image"
    needs_frame = False
    what = "picture"
    extensions = IMAGE_EXTENSIONS

    def needs_image(self, analyzed: AnalyzedFrame) -> bool:
        """Return True: every frame is written."""
        return True

    def _name_of(self, source: str) -> str:
        name = Path(source).name
        # An address may end in anything.
        return name if Path(name).suffix.lower() in IMAGE_EXTENSIONS else f"{name}.jpg"

    def _write_file(self, path: Path, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None) -> None:
        if image_bgr is None:
            raise ValueError("an image sink needs the annotated picture")
        write_image(path, image_bgr, overwrite=self._overwrite)


def write_image(path: Path, image_bgr: np.ndarray, *, overwrite: bool) -> None:
    """Write a picture, in full or not at all.

    OpenCV only encodes it, because its own writer accepts no Unicode names on Windows and hides why it
    failed.

    Args:
        path: One of `IMAGE_EXTENSIONS`; its folder exists.
        image_bgr: uint8 (H, W, 3).
        overwrite: Whether an existing file is replaced.

    Raises:
        OutputError: The file exists, or can't be written.
    """
    extension = path.suffix.lower()
    try:
        done, encoded = cv2.imencode(extension, image_bgr, _OPTIONS.get(extension, []))
    except cv2.error as error:
        raise OutputError(f"can't write {path}: {error.err or error}") from error
    if not done:
        raise OutputError(f"can't write {path}: a picture of this size can't be encoded as {path.suffix}")
    try:
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists; choose another place, or replace it with --overwrite")
        with replacing(path) as temporary:
            temporary.write_bytes(encoded.tobytes())
    except OSError as error:
        raise cannot_write(path, error) from error
