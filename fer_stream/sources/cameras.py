"""Open and list the cameras of this machine, and explain why one can't be opened, on each system."""

from __future__ import annotations

import errno
import os
import re
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2

from fer_stream.errors import SourceError
from fer_stream.sources.base import SourceKind
from fer_stream.sources.feeds import Connection, Feed
from fer_stream.sources.opencv import Capture


@dataclass(frozen=True)
class CameraInfo:
    """A camera of this machine.

    Attributes:
        index: Its number for `--camera`.
        name: Name given by its maker.
        note: Its path, or the reason why it can't be used; may be empty.
    """

    index: int
    name: str
    note: str = ""


@dataclass(frozen=True)
class _Backend:
    """One way to open a camera.

    Attributes:
        api: OpenCV's number for it.
        wants_mjpg: Whether to request compressed pictures. Uncompressed ones of 1280x720 or more are too
            much for USB 2 at the full rate.
        sets_at_once: Whether to give size and rate when opening, because Media Foundation takes seconds for
            each setting afterwards. On other systems, opening fails if the camera does not know a setting.
    """

    api: int
    wants_mjpg: bool = False
    sets_at_once: bool = False


# The number of buffers stays at its default. With a single one, the driver has none to fill while a picture
# is decoded, and loses every second picture. A separate thread reads the buffers, so they never fill up.
_BACKENDS = {
    "linux": [_Backend(cv2.CAP_V4L2, wants_mjpg=True)],
    "darwin": [_Backend(cv2.CAP_AVFOUNDATION)],
    "win32": [_Backend(cv2.CAP_MSMF, sets_at_once=True), _Backend(cv2.CAP_DSHOW, wants_mjpg=True)],
}


class Camera(Feed):
    """A camera of this machine, by its index."""

    kind = SourceKind.CAMERA
    patience_s = 3.0  # long enough for a camera to adapt to the light, or a laptop to wake up
    # macOS asks the user for permission, which works in the main thread only.
    opens_in_callers_thread = sys.platform == "darwin"

    def __init__(
        self, index: int, size_wh: tuple[int, int] | None = None, frame_rate: float | None = None
    ) -> None:
        self.name = f"camera {index}"
        self._index = index
        self._size_wh = size_wh
        self._frame_rate = frame_rate

    def open(self) -> Connection:
        """Open the camera with this system's best backend. See `Feed.open`."""
        if sys.platform == "linux":
            _check_linux_camera(self._index)
        for backend in _BACKENDS.get(sys.platform, [_Backend(cv2.CAP_ANY)]):
            capture = self._open_with(backend)
            if capture is not None:
                return Connection(capture)
        raise SourceError(f"{self.name} can't be opened: {self._help()}")

    def _open_with(self, backend: _Backend) -> Capture | None:
        wanted: list[tuple[int, float]] = []
        if backend.wants_mjpg:  # before the size, because the available sizes depend on it
            wanted.append((cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")))
        if self._size_wh is not None:
            wanted += zip((cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT), self._size_wh, strict=True)
        if self._frame_rate is not None:
            wanted.append((cv2.CAP_PROP_FPS, self._frame_rate))
        if backend.sets_at_once:
            parameters = [round(number) for pair in wanted for number in pair]
            capture = Capture.open(self._index, backend.api, parameters)
            if capture is not None or not wanted:
                return capture
        capture = Capture.open(self._index, backend.api)
        if capture is not None:
            for property_id, value in wanted:
                capture.set(property_id, value)
        return capture

    def no_picture_help(self) -> str:
        """Return advice. See `Feed.no_picture_help`."""
        return self._help()

    def refused_settings(self, size_wh: tuple[int, int], frame_rate: float | None) -> list[str]:
        """Return a line for each setting that the camera did not accept. See `Feed.refused_settings`."""
        unmet = []
        if self._size_wh is not None and size_wh != self._size_wh:
            unmet.append(
                "{} gives {}x{}, not the {}x{} asked for".format(self.name, *size_wh, *self._size_wh)
            )
        if self._frame_rate and frame_rate and abs(frame_rate - self._frame_rate) > 1:
            unmet.append(
                f"{self.name} gives {frame_rate:.4g} frames/s, not the {self._frame_rate:.4g} asked for"
            )
        return unmet

    def _help(self) -> str:
        """Return advice for a camera that can't be opened for an unknown reason."""
        if sys.platform != "linux":
            cameras = list_cameras()
            if cameras and self._index not in [camera.index for camera in cameras]:
                return _cameras_here(cameras)
        return _HELP.get(sys.platform, "check that it is connected and that no other program uses it")


_HELP = {
    "linux": "close the program that uses it, or unplug it and plug it in again",
    "darwin": "check that it is connected, that no other program uses it, and that your terminal may use it "
    "(System Settings, Privacy & Security, Camera)",
    "win32": "check that it is connected, that no other program uses it, and that desktop apps may use it "
    "(Settings, Privacy & security, Camera)",
}


def list_cameras() -> list[CameraInfo]:
    """Return the cameras of this machine, by index, as far as the system lists them."""
    if sys.platform == "linux":
        return _linux_cameras()
    if sys.platform == "darwin":
        return _listed_cameras(cv2.CAP_AVFOUNDATION)
    if sys.platform == "win32":
        return _listed_cameras(cv2.CAP_MSMF)
    return []


def _cameras_here(cameras: list[CameraInfo]) -> str:
    """Return the part of an error message that lists the cameras of this machine."""
    if not cameras:
        return "no camera was found; connect one"
    return "the cameras here are " + ", ".join(f"{camera.index} ({camera.name})" for camera in cameras)


# Linux: requests from linux/videodev2.h. The number of a request contains the size of its argument.
_FORMAT_SIZE = 204 + 204 % struct.calcsize("P")
_QUERYCAP = 0x80685600
_G_FMT = 0xC0005604 | _FORMAT_SIZE << 16
_S_FMT = 0xC0005605 | _FORMAT_SIZE << 16
# Capability flag of a node that captures: its buffer type.
_CAPTURE_TYPES = {0x1: 1, 0x1000: 9}

_PERMISSION_HELP = (
    "permission is refused; add yourself to the group 'video' (sudo usermod -aG video $USER) and log in again"
)
_BUSY_HELP = "another program uses it; close that program"


def _check_linux_camera(index: int) -> None:
    """Check that a camera can be opened, because OpenCV does not say why it can't.

    Raises:
        SourceError: There is no such camera, access is denied, or another program uses it.
    """
    path = Path(f"/dev/video{index}")
    try:
        captures, busy = _ask_v4l2(path)
    except FileNotFoundError:
        captures, busy = False, False
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            help_line = _PERMISSION_HELP
        elif error.errno == errno.EBUSY:
            help_line = _BUSY_HELP
        else:
            help_line = f"{error.strerror}; unplug it and plug it in again"
        raise SourceError(f"camera {index} ({path}) can't be opened: {help_line}") from error
    if not captures:
        raise SourceError(f"there is no camera {index} ({path}): {_cameras_here(_linux_cameras())}")
    if busy:
        raise SourceError(f"camera {index} ({path}) can't be opened: {_BUSY_HELP}")


def _ask_v4l2(path: Path) -> tuple[bool, bool]:
    """Return whether a node captures pictures, and whether another program is using it.

    Raises:
        OSError: The node can't be opened.
    """
    import fcntl

    node = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        capability = bytearray(104)
        try:
            fcntl.ioctl(node, _QUERYCAP, capability)
        except OSError:
            return False, False  # it does not belong to Video4Linux
        capabilities = struct.unpack_from("I", capability, 88)[0]
        buffers = next((kind for flag, kind in _CAPTURE_TYPES.items() if capabilities & flag), None)
        if buffers is None:
            return False, False
        # Setting the current format again changes nothing, and is refused while another program captures.
        picture_format = bytearray(_FORMAT_SIZE)
        struct.pack_into("I", picture_format, 0, buffers)
        try:
            fcntl.ioctl(node, _G_FMT, picture_format)
            fcntl.ioctl(node, _S_FMT, picture_format)
        except OSError as error:
            return True, error.errno == errno.EBUSY
        return True, False
    finally:
        os.close(node)


def _linux_cameras() -> list[CameraInfo]:
    """Return the nodes that capture pictures. Cameras have further nodes for metadata.

    cv2-enumerate-cameras does not say which are in use or refused, and leaves out some kinds.
    """
    cameras = []
    for path in Path("/dev").glob("video*"):
        number = re.fullmatch(r"video(\d+)", path.name)
        if number is None:
            continue
        try:
            captures, busy = _ask_v4l2(path)
            note = f"{path}, in use" if busy else str(path)
        except OSError as error:  # it exists, but can't be opened
            captures, note = (
                error.errno in (errno.EACCES, errno.EPERM, errno.EBUSY),
                f"{path}: {error.strerror}",
            )
        if captures:
            cameras.append(CameraInfo(int(number[1]), _linux_name(path.name), note))
    return sorted(cameras, key=lambda camera: camera.index)


def _linux_name(node: str) -> str:
    try:
        name = Path("/sys/class/video4linux", node, "name").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return node
    return name.strip() or node


def _listed_cameras(api: int) -> list[CameraInfo]:
    """Return the cameras that the system lists for one of OpenCV's interfaces, in OpenCV's order."""
    from cv2_enumerate_cameras import enumerate_cameras

    return [CameraInfo(camera.index, camera.name) for camera in enumerate_cameras(api)]
