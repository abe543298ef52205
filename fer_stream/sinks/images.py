"""Pictures on disk: written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import cv2
import numpy as np

from fer_stream.errors import OutputError
from fer_stream.sinks.base import cannot_write

QUALITY = 95
_OPTIONS = {
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, QUALITY],
    ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, QUALITY],
    ".webp": [cv2.IMWRITE_WEBP_QUALITY, QUALITY],
}
IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def write_image(path: Path, image_bgr: np.ndarray, *, overwrite: bool) -> None:
    """Writes a picture under a temporary name and then gives it its own.

    OpenCV only encodes it: its own writer takes no Unicode names on Windows and hides the reason of
    a failure.

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
    partial = path.with_name(f".fer-stream-{os.getpid()}.partial")
    try:
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists; choose another place, or replace it with --overwrite")
        partial.write_bytes(encoded.tobytes())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            partial.unlink(missing_ok=True)
        raise cannot_write(path, error) from error
