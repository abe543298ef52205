"""Read single images, and folders and globs of images."""

from __future__ import annotations

import glob
import io
import logging
import os
import re
import warnings
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from fer_stream.errors import SourceError, reason_of
from fer_stream.sources.addresses import is_network_address, without_password
from fer_stream.sources.base import RECORDING_EXTENSIONS, Source, SourceInfo, SourceKind
from fer_stream.sources.heif import HEIF_SUFFIXES, TiledPictureError, is_animated, is_still, read_heif
from fer_stream.sources.opencv import quiet_opencv
from fer_stream.system.environment import check_pixels, max_image_pixels
from fer_stream.system.files import unreadable_kind
from fer_stream.system.memory import is_out_of_memory
from fer_stream.types import Frame

IMAGE_SUFFIXES = HEIF_SUFFIXES | {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}

# Largest size of a file: 16 bits in four channels per pixel, plus previews and colour profiles.
_BYTES_PER_PIXEL = 8
_OTHER_BYTES = 64 * 2**20
_HEADER_BYTES = 2**20  # the header of a JPEG file may contain a preview
_NOWHERE = logging.NullHandler()


def is_image_path(path: Path) -> bool:
    """Return whether a path has the extension of an image, in upper or lower case."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def images_in_folder(folder: Path) -> list[Path]:
    """Return the images directly in a folder, in natural order (2 before 10).

    Raises:
        SourceError: The folder can't be read, or contains no image.
    """
    try:
        files = [path for path in folder.iterdir() if not path.is_dir()]
    except OSError as error:
        raise SourceError(f"{folder} can't be read: {reason_of(error)}") from error
    paths = [path for path in files if is_image_path(path)]
    if not paths and any(path.suffix.lower() in RECORDING_EXTENSIONS for path in files):
        raise SourceError(f"{folder} holds videos; fer-batch analyzes a folder of them, fer-stream one video")
    if not paths:
        raise SourceError(f"{folder} holds no image; {_ACCEPTED_IMAGES}")
    return sorted(paths, key=_natural_order)


def images_of_glob(pattern: str) -> list[Path]:
    """Return the images that a glob matches, in natural order.

    Raises:
        SourceError: The glob matches no image.
    """
    # Not Path.glob, which accepts no absolute pattern.
    matches = map(Path, glob.glob(pattern))  # noqa: PTH207
    paths = [path for path in matches if is_image_path(path) and not path.is_dir()]
    if not paths:
        raise SourceError(f"{pattern} matches no image; {_ACCEPTED_IMAGES}")
    return sorted(paths, key=_natural_order)


def images_of_source(info: SourceInfo) -> list[Path]:
    """Return the image files that an open source reads; empty for a video, a live source or an address."""
    if info.kind != SourceKind.IMAGES or is_network_address(info.name):
        return []
    if info.path is None:
        return images_of_glob(info.name)
    return images_in_folder(info.path) if info.path.is_dir() else [info.path]


_ACCEPTED_IMAGES = f"images are {', '.join(sorted(IMAGE_SUFFIXES))}, and folders inside are not searched"


def _natural_order(path: Path) -> tuple[list[str | int], str]:
    # Splitting gives text and numbers in turn, so text is compared with text and numbers with numbers.
    parts = re.split(r"([0-9]+)", str(path).lower())
    return [int(part) if position % 2 else part for position, part in enumerate(parts)], str(path)


class ImagesSource(Source):
    """Reads images one after the other. The `source` of each frame is the path or address of its image.

    An unreadable image is left out and named in `problems`. Its index stays unused, so that an index always
    means the same image.
    """

    def __init__(self, name: str, path: Path | None, images: Sequence[Path | str], *, mirror: bool) -> None:
        """Open the images and read the first.

        Args:
            name: Name to show.
            path: The single image or the folder; None for a glob or an address.
            images: At least one file or http address, in order.
            mirror: Flip every frame horizontally.

        Raises:
            SourceError: No image is readable.
        """
        super().__init__(mirror=mirror)
        self._waiting = deque(enumerate(images))
        self._tiled: list[tuple[str, TiledPictureError]] = []
        # Read the first image now, so that an error shows at once. The first call of `_read` returns it.
        self._first = self._next_image()
        if self._first is None:
            if len(images) == 1:
                raise SourceError(self.problems[0])
            raise SourceError(f"{name}: none of its {len(images)} images can be read; {self.problems[0]}")
        bgr = self._first[0]
        self.info = SourceInfo(
            name=name,
            kind=SourceKind.IMAGES,
            path=path,
            size_wh=(bgr.shape[1], bgr.shape[0]),
            frame_rate=None,
            time_base=None,
            duration_s=None,
            frame_count=len(images),
        )

    def _read(self) -> Frame | None:
        next_image, self._first = self._first or self._next_image(), None
        if next_image is None:
            return None
        bgr, index, name = next_image
        return self._frame(bgr, index, 0.0, name)

    def _next_image(self) -> tuple[np.ndarray, int, str] | None:
        while self._waiting:
            index, image = self._waiting.popleft()
            try:
                return read_image(image), index, _name_of(image)
            except TiledPictureError as error:
                self._tiled.append((_name_of(image), error))
            except SourceError as error:
                self.problems.append(str(error))
        self._note_tiled()
        return None

    def _note_tiled(self) -> None:
        """Note the pictures in tiles, in one line: in a folder from a phone there may be hundreds."""
        if len(self._tiled) == 1:
            self.problems.append(str(self._tiled[0][1]))
        elif self._tiled:
            self.problems.append(
                f"{self._tiled[0][0]} and {len(self._tiled) - 1} more pictures were left out: they are in "
                "tiles, which fer-stream can't read; convert them to JPEG"
            )
        self._tiled.clear()

    def _release(self) -> None:
        self._note_tiled()
        self._waiting.clear()
        self._first = None


def read_image(image: Path | str) -> np.ndarray:
    """Read an image as uint8 (H, W, 3) BGR, upright by its EXIF orientation.

    16 bits become 8, gray and CMYK become BGR, and alpha is dropped. If a file has several pictures (an
    animation, the pages of a TIFF), the first one is read.

    Args:
        image: A file, or an http or https address with its user and password.

    Raises:
        SourceError: It can't be read as an image, or has too many pixels.
    """
    name = _name_of(image)
    try:
        data = _read_address(image) if isinstance(image, str) else _read_file(image)
    except OSError as error:
        raise SourceError(f"{name} can't be read: {reason_of(error)}") from error
    bgr = read_heif(name, data) if is_still(data) or is_animated(data) else _decode(data)
    if bgr is None:
        raise SourceError(f"{name} can't be read as an image: it is damaged or in another format")
    return bgr


def _decode(data: bytearray) -> np.ndarray | None:
    try:
        with quiet_opencv():
            return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:  # depending on the damage, OpenCV raises or returns None
        if is_out_of_memory(error):
            raise
        return None


def _name_of(image: Path | str) -> str:
    return without_password(image) if isinstance(image, str) else str(image)


def _read_file(path: Path) -> bytearray:
    if kind := unreadable_kind(path):
        raise SourceError(f"{path} is {kind}, not an image file")
    # Not cv2.imread: on Windows it opens only paths of the system's code page.
    with path.open("rb") as file:
        return _read_bounded(str(path), file, os.fstat(file.fileno()).st_size)


def _read_address(address: str) -> bytearray:
    from fer_stream.sources import web  # here, because it takes long to load

    try:
        with web.request(address, web.TIMEOUT_S) as reply:
            return _read_bounded(without_password(address), reply, web.stated_bytes(reply))
    except web.UNREADABLE as error:
        raise OSError(reason_of(error)) from error


def _read_bounded(name: str, file: BinaryIO, size_bytes: int | None) -> bytearray:
    """Read a file, unless its header states too many pixels or it is too large for its pixels.

    Args:
        name: The name to use in messages.
        file: It is read from its start.
        size_bytes: Its size; None if unknown.

    Raises:
        SourceError: The file is empty or refused, or breaks off; the message says why.
    """
    data = bytearray(file.read(_HEADER_BYTES))
    if not data:
        raise SourceError(f"{name} is empty (zero bytes)")
    pixels = max_image_pixels()
    width, height = _stated_size(data)
    check_pixels(name, (width, height), pixels)
    most = (width * height or pixels) * _BYTES_PER_PIXEL + _OTHER_BYTES
    if size_bytes is None or size_bytes <= most:
        while len(data) <= most and (more := file.read(_HEADER_BYTES)):
            data += more
    if max(size_bytes or 0, len(data)) > most:
        raise SourceError(f"{name} is larger than an image of its size can be; it is damaged or not an image")
    if len(data) < (size_bytes or 0):
        raise SourceError(f"{name} broke off after {len(data)} of {size_bytes} bytes; start again")
    return data


def _stated_size(head: bytes | bytearray) -> tuple[int, int]:
    """Return the width and height that an image's header states; (0, 0) if that is unclear."""
    import PIL.Image  # here, because only images need it

    # Otherwise Python prints what Pillow logs, if the program has not set up logging.
    logging.getLogger("PIL").addHandler(_NOWHERE)
    limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None  # our own limit applies
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PIL.Image.open(io.BytesIO(head)) as image:
                return image.size
    except Exception:  # damaged, or a longer header than was read; then OpenCV's own limit applies
        return 0, 0
    finally:
        PIL.Image.MAX_IMAGE_PIXELS = limit
