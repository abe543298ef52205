"""Read pictures in the HEIF container: AVIF with Pillow, and HEIC with FFmpeg, which can't join tiles."""

from __future__ import annotations

import io
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np

from fer_stream.errors import SourceError
from fer_stream.system.environment import check_pixels, max_image_pixels
from fer_stream.system.files import unreadable_kind
from fer_stream.system.memory import is_out_of_memory

HEIF_SUFFIXES = frozenset({".avif", ".heic", ".heif", ".hif"})

IN_TILES = "is a picture in tiles, which fer-stream can't read; convert it to JPEG"  # after its name

_STILL_BRANDS = (b"avif", b"heic", b"heix", b"mif1")
_ANIMATED_BRANDS = (b"avis", b"hevc", b"hevx", b"msf1")
_HEAD_BYTES = 12  # the size of the first box, its kind, and the file's main brand


class TiledPictureError(SourceError):
    """A picture consists of tiles that can't be joined, as the HEIC pictures of most phones do."""


def is_still(head: bytes | bytearray) -> bool:
    """Return whether a file that begins like this is a HEIF picture."""
    return head[4:8] == b"ftyp" and head[8:_HEAD_BYTES] in _STILL_BRANDS


def is_animated(head: bytes | bytearray) -> bool:
    """Return whether a file that begins like this is a HEIF animation."""
    return head[4:8] == b"ftyp" and head[8:_HEAD_BYTES] in _ANIMATED_BRANDS


def is_animation(path: Path) -> bool:
    """Return whether a file is a HEIF animation, by its extension and content."""
    with suppress(OSError):
        if path.suffix.lower() in HEIF_SUFFIXES and not unreadable_kind(path):
            with path.open("rb") as file:
                return is_animated(file.read(_HEAD_BYTES))
    return False


def read_heif(name: str, data: bytes | bytearray) -> np.ndarray | None:
    """Read a HEIF picture, or the first of an animation, as uint8 (H, W, 3) BGR, upright.

    Args:
        name: The name to use in messages.
        data: The whole file.

    Returns:
        The picture; None if it is damaged or coded in another way.

    Raises:
        SourceError: It has too many pixels, or tiles that can't be joined.
    """
    try:
        bgr = _read_with_pillow(name, data)
        return _read_with_ffmpeg(name, data) if bgr is None else bgr
    except SourceError:
        raise
    except Exception as error:  # both libraries raise errors of many kinds
        if is_out_of_memory(error):
            raise
        return None


def _read_with_pillow(name: str, data: bytes | bytearray) -> np.ndarray | None:
    """Read an AVIF picture; return None for HEIC, and if this Pillow can't read AVIF."""
    import PIL.Image
    import PIL.ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its size: our own limit applies
            image = PIL.Image.open(io.BytesIO(data), formats=["AVIF"])
    except (PIL.UnidentifiedImageError, KeyError):  # the latter from a Pillow that does not know AVIF
        return None
    with image:
        check_pixels(name, image.size, max_image_pixels())
        rgb = np.asarray(PIL.ImageOps.exif_transpose(image).convert("RGB"))
    return np.ascontiguousarray(rgb[:, :, ::-1])


def _read_with_ffmpeg(name: str, data: bytes | bytearray) -> np.ndarray | None:
    from fer_stream.sources.bgr import BgrConverter
    from fer_stream.sources.container import in_tiles, open_container, pick_video_stream
    from fer_stream.sources.orientation import display_matrix, upright

    with open_container(io.BytesIO(data)) as container:
        if in_tiles(container):
            raise TiledPictureError(f"{name} {IN_TILES}")
        stream = pick_video_stream(container)
        if stream is None:
            return None
        check_pixels(name, (stream.width, stream.height), max_image_pixels())
        stream.codec_context.options = {"max_pixels": str(max_image_pixels())}
        frame = next(frame for packet in container.demux(stream) for frame in stream.decode(packet))
        bgr = BgrConverter((frame.width, frame.height)).convert(frame)
        return upright(bgr, display_matrix(frame))
