"""Recognize the kind of a source, check the requested part, and open it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from fer_stream.errors import SourceError, UsageError, one_line, reason_of
from fer_stream.ranges import CAMERA
from fer_stream.sources.addresses import (
    NETWORK_SCHEMES,
    has_scheme,
    is_network_address,
    is_usable,
    without_password,
)
from fer_stream.sources.base import Source
from fer_stream.sources.heif import is_animation
from fer_stream.sources.images import ImagesSource, images_in_folder, images_of_glob, is_image_path
from fer_stream.sources.time_text import format_time
from fer_stream.system.background import Task


def open_source(
    spec: str | Path | int,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    mirror: bool = False,
    camera_size_wh: tuple[int, int] | None = None,
    camera_frame_rate: float | None = None,
) -> Source:
    """Open a source and read its first frame, so that errors show at once.

    Args:
        spec: The index of a camera; a network address (rtsp, rtsps, http, https, udp, rtmp) of a stream, a
            file or an image; an image file, or a folder or glob of images; or a video file.
        start_s: Start of the part of a recording, presentation time in seconds.
        end_s: End of the part (exclusive); None for the end of the recording.
        mirror: Flip every frame horizontally.
        camera_size_wh: Width and height to request from a camera; None for its default.
        camera_frame_rate: Frames per second to request from a camera; None for its default.

    Returns:
        The open source. The caller closes it.

    Raises:
        SourceError: The source does not exist, can't be read, or has no frame between start and end.
        UsageError: The index of a camera is not a whole number of 0 or more, start and end contradict each
            other, or a part of something else than a recording is asked for.
    """
    if isinstance(spec, np.integer):
        spec = int(spec)
    if isinstance(spec, int) and not CAMERA.holds(spec):
        raise UsageError(f"the camera's index is {spec!r}, which is not {CAMERA.what}")
    _check_part(start_s, end_s)
    is_cut = start_s > 0 or end_s is not None

    if isinstance(spec, int) or (isinstance(spec, str) and is_network_address(spec)):
        _refuse_part(is_cut, "a live source")
        if isinstance(spec, str):
            return _open_address(spec, mirror=mirror)
        from fer_stream.sources.cameras import Camera
        from fer_stream.sources.live import LiveSource

        return LiveSource(Camera(spec, camera_size_wh, camera_frame_rate), mirror=mirror)

    name, path = str(spec), Path(spec)
    if not name:
        raise UsageError("the source's name is empty: give a file, a folder, a glob or an address")
    images: list[Path] | None = None
    images_path: Path | None = path
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as error:  # the name is too long, or a folder may not be entered
        raise SourceError(f"{name} can't be read: {reason_of(error)}") from error
    if is_folder:
        images = images_in_folder(path)
    elif exists:
        images = [path] if is_image_path(path) and not is_animation(path) else None
    elif any(character in name for character in "*?["):
        images, images_path = images_of_glob(name), None
    elif has_scheme(name):
        raise SourceError(
            f"{without_password(name)} is of a kind that can't be read; an address begins with one of "
            f"{', '.join(NETWORK_SCHEMES)}"
        )
    else:
        raise SourceError(f"{name}: no such file or folder")
    if images is not None:
        _refuse_part(is_cut, "a picture")
        return ImagesSource(name, images_path, images, mirror=mirror)

    from fer_stream.sources.video import VideoSource  # here, because only recordings need PyAV

    return VideoSource(path, name=name, start_s=start_s, end_s=end_s, mirror=mirror)


def _open_address(address: str, *, mirror: bool) -> Source:
    from fer_stream.sources.live import LiveSource
    from fer_stream.sources.network import NetworkStream
    from fer_stream.sources.web import ANSWER_LIMIT_S, Served, does_not_answer, is_web_address, served_at

    if not is_usable(address):  # OpenCV crashes on a surrogate
        raise SourceError(
            f"{one_line(without_password(address))} can't be opened: it has a control character or a byte "
            "that is not UTF-8; write it as % and two hexadecimal digits"
        )
    served = Served.STREAM
    if is_web_address(address):
        asking = Task(lambda: served_at(address))  # in a thread: an interrupt must not wait for the answer
        try:
            served = asking.result(ANSWER_LIMIT_S)
        except TimeoutError as error:
            raise does_not_answer(address) from error
    if served == Served.PICTURE:
        return ImagesSource(without_password(address), None, [address], mirror=mirror)
    return LiveSource(NetworkStream(address, served), mirror=mirror)


def _check_part(start_s: float, end_s: float | None) -> None:
    if not (math.isfinite(start_s) and start_s >= 0):
        raise UsageError(f"the start is a time of 0 or more, not {start_s}")
    if end_s is None:
        return
    if not math.isfinite(end_s):
        raise UsageError(f"the end is a time, not {end_s}")
    if end_s <= start_s:
        raise UsageError(f"the end ({format_time(end_s)}) must lie after the start ({format_time(start_s)})")


def _refuse_part(is_cut: bool, what: str) -> None:
    if is_cut:
        raise UsageError(f"start and end pick a part of a recording; {what} has none: leave them out")
