"""`--verbose` logs the steps and tracebacks; without it an error is one line."""

from __future__ import annotations

import csv
from pathlib import Path

import av
import cv2
import pytest
from helpers.paths import SAMPLE

from fer_stream.detection.detector import Detector
from fer_stream.inference import devices

ADDRESS = "rtsp://user:hunter2@127.0.0.1:1/live"


def test_an_error_comes_with_its_traceback_and_without_passwords(fer) -> None:
    said = fer(ADDRESS, "--data", "t.csv", "--verbose")
    assert said.code == 3
    assert "Traceback" in said.err and "SourceError" in said.err
    assert "hunter2" not in said.err
    plain = fer(ADDRESS, "--data", "t.csv")
    assert plain.code == 3 and plain.line in said.err


@pytest.mark.parametrize(
    ("method", "calls", "error", "says"),
    [
        (
            "refine",
            30,
            RuntimeError("CUDA error: unknown\nwith more lines"),
            "RuntimeError: CUDA error: unknown;",
        ),
        ("scan", 3, cv2.error("OpenCV failed"), "cv2.error: OpenCV failed;"),
    ],
)
def test_an_unexpected_error_is_one_line_and_finishes_the_outputs(
    fer, loaded, monkeypatch: pytest.MonkeyPatch, method: str, calls: int, error: Exception, says: str
) -> None:
    find = getattr(Detector, method)
    called = 0

    def fail_later(self: Detector, *arguments: object) -> object:
        nonlocal called
        called += 1
        if called > calls:
            raise error
        return find(self, *arguments)

    monkeypatch.setattr(Detector, method, fail_later)
    outputs = ("--save", "v.mp4", "--data", "t.csv", "--chart", "c.png", "--report", "r.html")
    said = fer(SAMPLE, *outputs)
    assert said.code == 1
    assert said.line == f"fer-stream: unexpected {says} --verbose shows where it happened"
    with av.open("v.mp4") as video:
        saved = sum(1 for _ in video.decode(video=0))
    with Path("t.csv").open(newline="") as table:
        frames = [int(row["frame"]) for row in csv.DictReader(table)]
    assert sorted(set(frames)) == list(range(saved)) and saved >= 25
    assert cv2.imread("c.png") is not None and Path("r.html").read_text().rstrip().endswith("</html>")

    called = 0
    said = fer(SAMPLE, "--data", "u.csv", "--verbose")
    assert said.code == 1 and "Traceback" in said.err and "fail_later" in said.err


def test_the_steps_of_a_run_are_logged(fer, loaded) -> None:
    said = fer(SAMPLE, "--end", "0.1", "--data", "t.csv", "--verbose")
    assert said.code == 0
    for step in ("Python", "source: ", "networks loaded on cpu", "stages in ms"):
        assert step in said.err
    assert "networks loaded" not in fer(SAMPLE, "--end", "0.1", "--data", "u.csv").err


def test_an_unused_gpu_is_reported(fer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_has_nvidia_driver", lambda: True)
    monkeypatch.setattr(devices, "missing_modules", lambda _: ["torch"])
    said = fer(SAMPLE, "--end", "0.1", "--data", "t.csv", "--verbose")
    assert said.code == 0
    assert "an NVIDIA driver, but torch is not installed: using the CPU" in said.err
    assert "pip install '.[cuda]'" in said.err
    assert "NVIDIA" not in fer(SAMPLE, "--end", "0.1", "--data", "u.csv").err
