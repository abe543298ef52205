"""Cameras, with fake devices and systems, because test machines have no camera. The errors are real."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.fake_camera import FakeVideoCapture

from fer_stream.command.cli import main
from fer_stream.errors import SourceError, UsageError
from fer_stream.sources import cameras, live, open_source
from fer_stream.sources.cameras import Camera, CameraInfo, list_cameras

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="asks Video4Linux")


MJPG = (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
SIZE_AND_RATE = [
    (cv2.CAP_PROP_FRAME_WIDTH, 1280),
    (cv2.CAP_PROP_FRAME_HEIGHT, 720),
    (cv2.CAP_PROP_FPS, 30),
]


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        # The compression comes first, because the sizes of a camera depend on it.
        ("linux", [(cv2.CAP_V4L2, [MJPG, *SIZE_AND_RATE])]),
        ("darwin", [(cv2.CAP_AVFOUNDATION, SIZE_AND_RATE)]),
        ("win32", [(cv2.CAP_MSMF, SIZE_AND_RATE)]),
    ],
)
def test_each_system_gets_its_own_camera_settings(
    platform: str,
    expected: list[tuple[int, list[tuple[int, float]]]],
    fake_camera: type[FakeVideoCapture],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    Camera(0, (1280, 720), 30.0).open()
    assert fake_camera.log == expected


def test_windows_falls_back_to_directshow(
    fake_camera: type[FakeVideoCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(fake_camera, "opens", {cv2.CAP_DSHOW})
    Camera(0, (1280, 720), 30.0).open()
    assert fake_camera.log[-1] == (cv2.CAP_DSHOW, [MJPG, *SIZE_AND_RATE])


def test_windows_asks_for_the_size_later_if_the_camera_refuses_it(
    fake_camera: type[FakeVideoCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(fake_camera, "refuses_parameters", True)
    Camera(0, (1280, 720), 30.0).open()
    assert fake_camera.log[-1] == (cv2.CAP_MSMF, SIZE_AND_RATE)


def test_opencv_settings_are_set_before_it_loads() -> None:
    """On Windows, OpenCV ignores variables that are set later."""
    script = (
        "import fer_stream, os, sys; assert 'cv2' not in sys.modules;"
        "print(os.environ['OPENCV_VIDEOIO_MSMF_ENABLE_HW_TRANSFORMS'], os.environ['OPENCV_FFMPEG_LOGLEVEL'])"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV_")}
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, check=True)
    assert said.stdout.split() == [b"0", b"-8"]


def test_a_camera_reports_settings_that_it_does_not_follow(fake_camera: type[FakeVideoCapture]) -> None:
    with open_source(0, camera_size_wh=(1280, 720), camera_frame_rate=60) as source:
        frame = next(iter(source))
        assert (source.info.kind, source.info.name, source.info.size_wh) == ("camera", "camera 0", (640, 480))
        assert frame.size_wh == (640, 480)
        assert source.problems == [
            "camera 0 gives 640x480, not the 1280x720 asked for",
            "camera 0 gives 30 frames/s, not the 60 asked for",
        ]


def test_a_camera_can_be_named_by_a_number_of_numpy(fake_camera: type[FakeVideoCapture]) -> None:
    with open_source(np.arange(2)[1]) as source:
        assert source.info.name == "camera 1"
    with pytest.raises(UsageError, match="the camera's index is -1"):
        open_source(np.int64(-1))


def test_a_camera_without_a_picture_says_what_to_do(
    fake_camera: type[FakeVideoCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_camera, "read", lambda self: (False, None))
    monkeypatch.setattr(Camera, "patience_s", 0.1)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(SourceError, match="gives no picture: close the program that uses it"):
        open_source(0)


def test_a_camera_that_skips_a_picture_is_not_reopened(
    fake_camera: type[FakeVideoCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = iter(range(1000))
    picture = fake_camera.read

    def read(self: FakeVideoCapture) -> tuple[bool, np.ndarray | None]:
        return picture(self) if next(reads) % 3 else (False, None)

    monkeypatch.setattr(fake_camera, "read", read)
    with open_source(0) as source:
        assert len([frame for frame, _ in zip(source, range(5), strict=False)]) == 5
    assert len(fake_camera.log) == 1


def test_a_camera_that_was_unplugged_comes_back(
    fake_camera: type[FakeVideoCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugged_in = True
    tries = 0

    def check(index: int) -> None:
        nonlocal tries
        tries += not plugged_in
        if not plugged_in:
            raise SourceError("there is no camera 0")

    picture = fake_camera.read
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(cameras, "_check_linux_camera", check)
    monkeypatch.setattr(fake_camera, "read", lambda self: picture(self) if plugged_in else (False, None))
    monkeypatch.setattr(Camera, "patience_s", 0.05)
    monkeypatch.setattr(live, "FIRST_PAUSE_S", 0.01)
    with open_source(0) as source:
        frames = iter(source)
        before = next(frames)
        plugged_in = False
        deadline = time.monotonic() + 10
        while tries < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert source.status.message.startswith("reconnecting, attempt ")
        plugged_in = True
        after = next(frame for frame, _ in zip(frames, range(100), strict=False) if source.status.connected)
        assert after.time_s > before.time_s
    assert source.problems[0].startswith("camera 0 was away once")


@pytest.mark.parametrize(
    ("platform", "help_line"),
    [
        ("darwin", "System Settings, Privacy & Security, Camera"),
        ("win32", "Settings, Privacy & security, Camera"),
    ],
)
def test_the_error_names_the_system_settings_if_the_cause_is_unknown(
    platform: str, help_line: str, fake_camera: type[FakeVideoCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(fake_camera, "opens", frozenset())
    monkeypatch.setattr(cameras, "list_cameras", lambda: [CameraInfo(0, "Webcam")])
    with pytest.raises(SourceError, match=f"camera 0 can't be opened: .*{help_line}"):
        Camera(0).open()
    with pytest.raises(SourceError, match=r"camera 4 can't be opened: the cameras here are 0 \(Webcam\)"):
        Camera(4).open()


@linux_only
class TestLinux:
    @pytest.mark.parametrize(
        ("error", "help_line"),
        [
            (
                PermissionError(errno.EACCES, "Permission denied"),
                "permission is refused; add yourself to the",
            ),
            (OSError(errno.EBUSY, "Device or resource busy"), "another program uses it"),
            (OSError(errno.ENODEV, "No such device"), "No such device; unplug it and plug it in again"),
        ],
    )
    def test_a_refusal_by_the_system_says_what_to_do(
        self, error: OSError, help_line: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> int:
            raise error

        monkeypatch.setattr(cameras.os, "open", refuse)
        with pytest.raises(SourceError, match=rf"camera 0 \(/dev/video0\) can't be opened: {help_line}"):
            Camera(0).open()

    def test_a_camera_in_use_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cameras, "_ask_v4l2", lambda path: (True, True))
        with pytest.raises(SourceError, match="can't be opened: another program uses it"):
            Camera(0).open()

    def test_a_metadata_device_is_not_a_camera(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cameras, "_ask_v4l2", lambda path: (False, False))
        monkeypatch.setattr(cameras, "_linux_cameras", lambda: [CameraInfo(0, "Webcam")])
        with pytest.raises(SourceError, match=r"there is no camera 1 .*the cameras here are 0 \(Webcam\)"):
            Camera(1).open()

    def test_dev_null_is_not_a_camera(self) -> None:
        assert cameras._ask_v4l2(Path("/dev/null")) == (False, False)

    def test_only_devices_that_take_pictures_are_listed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answers = {"video0": (True, False), "video1": (False, False), "video2": (True, True)}

        def ask(path: Path) -> tuple[bool, bool]:
            if path.name == "video10":
                raise PermissionError(errno.EACCES, "Permission denied")
            return answers[path.name]

        monkeypatch.setattr(cameras, "_ask_v4l2", ask)
        monkeypatch.setattr(cameras, "_linux_name", lambda device: f"Camera of {device}")
        names = ["video10", "video2", "video0", "video1", "videodev"]
        monkeypatch.setattr(Path, "glob", lambda self, pattern: [self / name for name in names])
        assert list_cameras() == [
            CameraInfo(0, "Camera of video0", "/dev/video0"),
            CameraInfo(2, "Camera of video2", "/dev/video2, in use"),
            CameraInfo(10, "Camera of video10", "/dev/video10: Permission denied"),
        ]


@pytest.mark.parametrize(
    ("system", "interface"),
    [("darwin", cv2.CAP_AVFOUNDATION), ("win32", cv2.CAP_MSMF)],
    ids=["macOS", "Windows"],
)
def test_cameras_come_with_their_names(monkeypatch: pytest.MonkeyPatch, system: str, interface: int) -> None:
    known = [types.SimpleNamespace(index=0, name="HD Webcam"), types.SimpleNamespace(index=1, name="OBS")]
    module = types.SimpleNamespace(enumerate_cameras=lambda api: known if api == interface else [])
    monkeypatch.setitem(sys.modules, "cv2_enumerate_cameras", module)  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "platform", system)
    assert list_cameras() == [CameraInfo(0, "HD Webcam"), CameraInfo(1, "OBS")]


class TestCommand:
    def test_cameras_are_listed_on_standard_output(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        there = [CameraInfo(0, "HD Webcam", "/dev/video0"), CameraInfo(2, "\x1b[31mBad\nname")]
        monkeypatch.setattr(cameras, "list_cameras", lambda: there)
        assert main(["--list-cameras"]) == 0
        assert capsys.readouterr() == ("0  HD Webcam      /dev/video0\n2  \ufffd[31mBad name\n", "")

    def test_listing_no_camera_is_not_an_error(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(cameras, "list_cameras", list)
        assert main(["--list-cameras"]) == 0
        assert capsys.readouterr().out.startswith("no camera was found")

    @pytest.mark.parametrize("size", ["1280", "0x720", "1280x", "axb", "-1x2", "1280x720x3"])
    def test_a_malformed_size_is_wrong_usage(self, size: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--camera", "0", f"--camera-size={size}"]) == 2
        assert "is not a width and a height such as 1280x720" in capsys.readouterr().err

    def test_a_size_without_a_camera_is_wrong_usage(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["clip.mp4", "--camera-size", "1280x720"]) == 2
        assert "go with --camera N" in capsys.readouterr().err
