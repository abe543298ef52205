"""The virtual camera, with a fake pyvirtualcam, because test machines have no such device."""

from __future__ import annotations

import sys
import types
from dataclasses import replace

import numpy as np
import pytest
from helpers.contexts import camera_info
from helpers.paths import SAMPLE

from fer_stream.command import cli
from fer_stream.errors import OutputError, UsageError
from fer_stream.sinks import VirtualCameraSink
from fer_stream.types import AnalyzedFrame, Frame

INFO = camera_info()


def frame(index: int, time_s: float) -> AnalyzedFrame:
    return AnalyzedFrame(Frame(np.zeros((48, 64, 3), np.uint8), index, time_s), ())


def test_the_annotated_picture_is_sent_in_the_cameras_size(virtual_cameras):
    with VirtualCameraSink(INFO) as sink:
        sink.write(frame(0, 0.0), np.full((48, 64, 3), (1, 2, 3), np.uint8))
        sink.write(frame(1, 0.1), np.full((96, 128, 3), 9, np.uint8)[:, ::-1])
        assert sink.outputs() == []
    (camera,) = virtual_cameras
    assert (camera.size_wh, camera.fps, camera.fmt, camera.closed) == ((64, 48), 30.0, "bgr", 1)
    assert camera.sent[0][1][0, 0].tolist() == [1, 2, 3]
    assert (camera.sent[1][1] == 9).all()


def test_a_recording_is_sent_at_its_own_pace(virtual_cameras, monkeypatch):
    slept_s: list[float] = []
    clock = types.SimpleNamespace(monotonic=lambda: 100 + sum(slept_s), sleep=slept_s.append)
    monkeypatch.setattr("fer_stream.sinks.real_time.time", clock)
    with VirtualCameraSink(replace(INFO, kind="video")) as sink:
        for index in range(5):
            sink.write(frame(index, 7 + index * 0.05), np.zeros((48, 64, 3), np.uint8))
    assert slept_s == pytest.approx([0, 0.05, 0.05, 0.05, 0.05])
    assert len(virtual_cameras[0].sent) == 5


def test_a_long_gap_is_waited_for_only_briefly(virtual_cameras, monkeypatch):
    slept_s: list[float] = []
    clock = types.SimpleNamespace(monotonic=lambda: 100 + sum(slept_s), sleep=slept_s.append)
    monkeypatch.setattr("fer_stream.sinks.real_time.time", clock)
    with VirtualCameraSink(replace(INFO, kind="video")) as sink:
        for index, time_s in enumerate([0.0, 30.0, 30.1, 30.2]):
            sink.write(frame(index, time_s), np.zeros((48, 64, 3), np.uint8))
    assert slept_s == pytest.approx([0, 1, 0.1, 0.1])


def test_pictures_are_refused(virtual_cameras):
    with pytest.raises(UsageError, match="--save"):
        VirtualCameraSink(replace(INFO, kind="images"))
    assert virtual_cameras == []


@pytest.mark.parametrize(
    ("platform", "remedy"), [("linux", "v4l2loopback"), ("darwin", "OBS"), ("win32", "OBS"), ("sunos", "one")]
)
def test_a_missing_device_is_one_line_with_a_remedy(virtual_cameras, monkeypatch, platform, remedy):
    def no_device(*_: object, **__: object) -> None:
        raise RuntimeError("'v4l2loopback' backend: No v4l2 loopback device found\nand more lines")

    monkeypatch.setattr(sys.modules["pyvirtualcam"], "Camera", no_device)
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(OutputError, match=f"no virtual camera.*{remedy}") as error:
        VirtualCameraSink(INFO)
    assert "\n" not in str(error.value)


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(UsageError, match=r"pip install '\.\[virtual-camera\]'"):
        VirtualCameraSink(INFO)


def test_the_command_names_the_missing_extra_before_any_network_loads(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    monkeypatch.setattr("fer_stream.analyzer.Analyzer.__init__", None)
    assert cli.main([str(SAMPLE), "--virtual-camera"]) == 2
    assert capfd.readouterr().err.count("\n") == 1
