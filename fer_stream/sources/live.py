"""Cameras and network streams, through OpenCV."""

from __future__ import annotations

import math
import re
import sys
import time
from fractions import Fraction
from typing import Literal

import cv2
import numpy as np

from fer_stream.errors import SourceError
from fer_stream.sources.base import Source, SourceInfo
from fer_stream.sources.opencv import quiet_opencv
from fer_stream.types import Frame

NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https", "udp", "rtmp")

# A camera on a slow link needs seconds to answer; nobody waits longer than this for an error.
_OPEN_TIMEOUT_MS = 10_000
_READ_TIMEOUT_MS = 5_000

_NO_CAMERA_HELP = {
    "linux": "see that it is connected (ls /dev/video*), that no other program uses it, and that "
    "your user is in the group 'video'",
    "darwin": "see that it is connected, that no other program uses it, and that your terminal may "
    "use it (System Settings, Privacy & Security, Camera)",
    "win32": "see that it is connected, that no other program uses it, and that desktop apps may use "
    "it (Settings, Privacy & security, Camera)",
}


def is_network_address(spec: str) -> bool:
    """Returns whether a source is the address of a network stream."""
    scheme, separator, _ = spec.partition("://")
    return bool(separator) and scheme.lower() in NETWORK_SCHEMES


def without_password(address: str) -> str:
    """Returns an address as it may be shown: no user, no password, no secret in its query."""
    scheme, _, rest = address.partition("://")
    rest = re.sub(r"^[^/?#]*@", "", rest)
    # A password with an unescaped / ? or # looks like a port that is no number.
    rest = re.sub(r"^[^/?#:@]*:(?!\d*(?:[/?#]|$)).*@", "", rest)
    rest = re.sub(r"(?i)([?&](?:pass|passwd|password|pwd|token|secret)=)[^&#]*", r"\1***", rest)
    return f"{scheme}://{rest}"


class LiveSource(Source):
    """Reads a camera or a network stream; `time_s` counts from its first frame.

    Read it through `Background(source, drop_old=True)`: a frame that is fetched late is an old one.
    """

    def __init__(self, spec: int | str, *, mirror: bool) -> None:
        """Opens a camera by its index, or a stream by its address, and reads the first frame.

        Raises:
            SourceError: It can't be opened, or gives no picture.
        """
        super().__init__(mirror=mirror)
        kind: Literal["camera", "network"]
        if isinstance(spec, int):
            kind, self._name = "camera", f"camera {spec}"
            self._capture = _open_camera(spec)
        else:
            kind, self._name = "network", without_password(spec)
            self._capture = _open_network(spec, self._name)
        self._index = 0
        self._first_bgr: np.ndarray | None = None
        try:
            self._first_bgr = self._read_bgr()
        except BaseException:
            self._capture.release()
            raise
        self._started_s = time.monotonic()
        self.info = SourceInfo(
            name=self._name,
            kind=kind,
            path=None,
            size_wh=(self._first_bgr.shape[1], self._first_bgr.shape[0]),
            frame_rate=_frame_rate(self._capture),
            time_base=None,
            duration_s=None,
            frame_count=None,
        )

    def _read(self) -> Frame:
        if self._first_bgr is not None:
            bgr, self._first_bgr, time_s = self._first_bgr, None, 0.0
        else:
            bgr = self._read_bgr()
            time_s = time.monotonic() - self._started_s
        frame = self._frame(bgr, self._index, time_s, self._name)
        self._index += 1
        return frame

    def _read_bgr(self) -> np.ndarray:
        """Waits for the next picture, for the read timeout at most: the place to reconnect from."""
        with quiet_opencv():
            try:
                got, bgr = self._capture.read()
            except cv2.error:
                got, bgr = False, None
        if not got or bgr is None:
            raise SourceError(
                f"{self._name} stopped sending pictures; see that it is still connected and start again"
            )
        return cv2.cvtColor(bgr, cv2.COLOR_GRAY2BGR) if bgr.ndim == 2 else bgr

    def _release(self) -> None:
        self._capture.release()
        self._first_bgr = None


def _open_camera(index: int) -> cv2.VideoCapture:
    for backend, parameters in _camera_backends():
        with quiet_opencv():
            try:
                capture = cv2.VideoCapture(index, backend, parameters)
            except cv2.error:
                continue
        if capture.isOpened():
            return capture
        capture.release()
    help_line = _NO_CAMERA_HELP.get(
        sys.platform, "see that it is connected and that no other program uses it"
    )
    raise SourceError(f"camera {index} can't be opened: {help_line}")


def _camera_backends() -> list[tuple[int, list[int]]]:
    """Returns this platform's backends, best first, with the parameters to open each with."""
    if sys.platform == "darwin":
        return [(cv2.CAP_AVFOUNDATION, [])]
    if sys.platform == "win32":
        return [(cv2.CAP_MSMF, []), (cv2.CAP_DSHOW, [])]
    # USB cameras reach full rate at full size only compressed, and a buffer of one frame keeps the
    # picture current.
    mjpg = cv2.VideoWriter.fourcc(*"MJPG")
    wanted = [cv2.CAP_PROP_FOURCC, mjpg, cv2.CAP_PROP_BUFFERSIZE, 1]
    # A camera without MJPG may refuse the list as a whole.
    return [(cv2.CAP_V4L2, wanted), (cv2.CAP_V4L2, []), (cv2.CAP_ANY, [])]


def _open_network(address: str, name: str) -> cv2.VideoCapture:
    timeouts = [
        *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS),
        *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_TIMEOUT_MS),
    ]
    with quiet_opencv():
        try:
            capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, timeouts)
        except cv2.error:
            capture = None
    if capture is None or not capture.isOpened():
        raise SourceError(
            f"{name} can't be opened: see that the address is right, that the device answers, and that "
            "it needs no other user or password"
        )
    return capture


def _frame_rate(capture: cv2.VideoCapture) -> Fraction | None:
    """Returns the rate that the device states, or None where what it states makes no sense."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    if not math.isfinite(rate) or not 1 <= rate <= 1000:
        return None
    return Fraction(rate).limit_denominator(1001)
