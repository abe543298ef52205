"""`--verbose` logs the steps and tracebacks; without it an error is one line."""

from __future__ import annotations

import pytest
from helpers.paths import SAMPLE

from fer_stream.inference import devices

ADDRESS = "rtsp://user:hunter2@127.0.0.1:1/live"


def test_an_error_comes_with_its_traceback_and_without_passwords(fer) -> None:
    said = fer(ADDRESS, "--data", "t.csv", "--verbose")
    assert said.code == 3
    assert "Traceback" in said.err and "SourceError" in said.err
    assert "hunter2" not in said.err
    plain = fer(ADDRESS, "--data", "t.csv")
    assert plain.code == 3 and plain.line in said.err


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
