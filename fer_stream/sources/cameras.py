"""Cameras of this machine: how each system's are opened, listed, and what is in the way of one."""

from __future__ import annotations

import errno
import json
import os
import re
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2

from fer_stream.errors import SourceError
from fer_stream.sources.base import SourceKind
from fer_stream.sources.devices import Connection, Device
from fer_stream.sources.opencv import Capture

_LIST_TIMEOUT_S = 10


@dataclass(frozen=True)
class CameraInfo:
    """A camera that is there.

    Attributes:
        index: Its number for `--camera`.
        name: What its maker calls it.
        note: Where it is, or why it can't be used; may be empty.
    """

    index: int
    name: str
    note: str = ""


@dataclass(frozen=True)
class _Backend:
    """One way to open a camera.

    Attributes:
        api: OpenCV's number of it.
        wants_mjpg: Whether to ask for compressed pictures: uncompressed ones of 1280x720 and more are too
            much for USB 2 at full rate.
        sets_at_once: Whether size and rate are given as it opens: Media Foundation takes seconds for each
            that is set afterwards. Elsewhere one that a camera does not know would let it fail.
    """

    api: int
    wants_mjpg: bool = False
    sets_at_once: bool = False


# The buffers stay as they are: with a single one a driver has none to fill while a picture is decoded,
# and loses every other. They never fill, because a thread of its own reads them.
_BACKENDS = {
    "linux": [_Backend(cv2.CAP_V4L2, wants_mjpg=True)],
    "darwin": [_Backend(cv2.CAP_AVFOUNDATION)],
    "win32": [_Backend(cv2.CAP_MSMF, sets_at_once=True), _Backend(cv2.CAP_DSHOW, wants_mjpg=True)],
}


class Camera(Device):
    """A camera of this machine, by its index."""

    kind = SourceKind.CAMERA
    patience_s = 3.0  # while it sets itself to the light, or a laptop wakes up
    # macOS asks the user for permission, and only in the main thread.
    opens_in_callers_thread = sys.platform == "darwin"

    def __init__(
        self, index: int, size_wh: tuple[int, int] | None = None, frame_rate: float | None = None
    ) -> None:
        self.name = f"camera {index}"
        self._index = index
        self._size_wh = size_wh
        self._frame_rate = frame_rate

    def open(self) -> Connection:
        """Opens it with this system's best backend. See `Device.open`."""
        if sys.platform == "linux":
            _check_linux_camera(self._index)
        for backend in _BACKENDS.get(sys.platform, [_Backend(cv2.CAP_ANY)]):
            capture = self._open_with(backend)
            if capture is not None:
                return Connection(capture)
        raise SourceError(f"{self.name} can't be opened: {self._help()}")

    def _open_with(self, backend: _Backend) -> Capture | None:
        wanted: list[tuple[int, float]] = []
        if backend.wants_mjpg:  # before the size: the sizes of a camera depend on it
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
        """Says what may be wrong. See `Device.no_picture_help`."""
        return self._help()

    def unmet_wishes(self, size_wh: tuple[int, int], frame_rate: float | None) -> list[str]:
        """Compares with what was asked for. See `Device.unmet_wishes`."""
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
        """Says what may be in the way, where the system does not tell."""
        if sys.platform != "linux":
            cameras = list_cameras()
            if cameras and self._index not in [camera.index for camera in cameras]:
                return _cameras_here(cameras)
        return _HELP.get(sys.platform, "see that it is connected and that no other program uses it")


_HELP = {
    "linux": "close the program that uses it, or unplug it and plug it in again",
    "darwin": "see that it is connected, that no other program uses it, and that your terminal may use it "
    "(System Settings, Privacy & Security, Camera)",
    "win32": "see that it is connected, that no other program uses it, and that desktop apps may use it "
    "(Settings, Privacy & security, Camera)",
}


def list_cameras() -> list[CameraInfo]:
    """Returns the cameras of this machine by their index, as far as the system names them."""
    if sys.platform == "linux":
        return _linux_cameras()
    if sys.platform == "darwin":
        return _macos_cameras()
    if sys.platform == "win32":
        return _windows_cameras()
    return []


def _cameras_here(cameras: list[CameraInfo]) -> str:
    """Says which cameras there are, for an error about one that is not."""
    if not cameras:
        return "no camera was found; connect one"
    return "the cameras here are " + ", ".join(f"{camera.index} ({camera.name})" for camera in cameras)


# Linux: what linux/videodev2.h says. A request's number holds the size of what it takes.
_FORMAT_SIZE = 204 + 204 % struct.calcsize("P")
_QUERYCAP = 0x80685600
_G_FMT = 0xC0005604 | _FORMAT_SIZE << 16
_S_FMT = 0xC0005605 | _FORMAT_SIZE << 16
# What a device can do, and what the buffers of one that can are called.
_CAPTURE_TYPES = {0x1: 1, 0x1000: 9}

_PERMISSION_HELP = (
    "permission is refused; add yourself to the group 'video' (sudo usermod -aG video $USER) and log in again"
)
_BUSY_HELP = "another program uses it; close that program"


def _check_linux_camera(index: int) -> None:
    """Finds out what OpenCV would not tell.

    Raises:
        SourceError: There is no such camera, it may not be used, or another program uses it.
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
    """Returns whether a device takes pictures, and whether another program has it take some.

    Raises:
        OSError: It can't be opened.
    """
    import fcntl

    device = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        capability = bytearray(104)
        try:
            fcntl.ioctl(device, _QUERYCAP, capability)
        except OSError:
            return False, False  # not of Video4Linux
        abilities = struct.unpack_from("I", capability, 88)[0]
        buffers = next((kind for ability, kind in _CAPTURE_TYPES.items() if abilities & ability), None)
        if buffers is None:
            return False, False
        # To set the format that is set already changes nothing, and is refused while pictures are taken.
        picture_format = bytearray(_FORMAT_SIZE)
        struct.pack_into("I", picture_format, 0, buffers)
        try:
            fcntl.ioctl(device, _G_FMT, picture_format)
            fcntl.ioctl(device, _S_FMT, picture_format)
        except OSError as error:
            return True, error.errno == errno.EBUSY
        return True, False
    finally:
        os.close(device)


def _linux_cameras() -> list[CameraInfo]:
    """Lists what takes pictures; a camera has further devices that only tell about them."""
    cameras = []
    for path in Path("/dev").glob("video*"):
        number = re.fullmatch(r"video(\d+)", path.name)
        if number is None:
            continue
        try:
            captures, busy = _ask_v4l2(path)
            note = f"{path}, in use" if busy else str(path)
        except OSError as error:  # also of one that may not be opened is known that it is there
            captures, note = (
                error.errno in (errno.EACCES, errno.EPERM, errno.EBUSY),
                f"{path}: {error.strerror}",
            )
        if captures:
            cameras.append(CameraInfo(int(number[1]), _linux_name(path.name), note))
    return sorted(cameras, key=lambda camera: camera.index)


def _linux_name(device: str) -> str:
    try:
        name = Path("/sys/class/video4linux", device, "name").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return device
    return name.strip() or device


def _macos_cameras() -> list[CameraInfo]:
    """Lists what macOS knows, in the order that OpenCV counts in: by unique id."""
    command = ["system_profiler", "-json", "SPCameraDataType"]
    try:
        told = subprocess.run(command, capture_output=True, timeout=_LIST_TIMEOUT_S, check=True).stdout
        devices = json.loads(told)["SPCameraDataType"]
        ordered = sorted(devices, key=lambda device: str(device.get("spcamera_unique-id", "")))
        return [CameraInfo(index, str(device["_name"])) for index, device in enumerate(ordered)]
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError, AttributeError):
        return []


def _windows_cameras() -> list[CameraInfo]:
    """Lists what Media Foundation knows, in its order."""
    from cv2_enumerate_cameras import enumerate_cameras

    return [CameraInfo(camera.index, camera.name) for camera in enumerate_cameras(cv2.CAP_MSMF)]
