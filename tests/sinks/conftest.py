"""Devices and displays that the sinks write to."""

from __future__ import annotations

import os
import sys
import time
import types
from collections.abc import Iterator

import numpy as np
import pytest
from helpers.display import running_xvfb


@pytest.fixture
def virtual_cameras(monkeypatch) -> list:
    """Replace pyvirtualcam with a fake. The list holds every camera that was opened."""
    opened = []

    class Camera:
        """A fake camera that is as strict as pyvirtualcam's."""

        device = "/dev/video9"

        def __init__(self, width: int, height: int, fps: float, *, fmt: str) -> None:
            self.size_wh, self.fps, self.fmt, self.sent, self.closed = (width, height), fps, fmt, [], 0
            opened.append(self)

        def send(self, frame: np.ndarray) -> None:
            assert frame.dtype == np.uint8 and frame.shape == (*self.size_wh[::-1], 3)
            assert frame.flags.c_contiguous
            self.sent.append((time.monotonic(), frame.copy()))

        def close(self) -> None:
            self.closed += 1

    module = types.ModuleType("pyvirtualcam")
    module.Camera, module.PixelFormat = Camera, types.SimpleNamespace(BGR="bgr")
    monkeypatch.setitem(sys.modules, "pyvirtualcam", module)
    return opened


@pytest.fixture
def different_drives(monkeypatch) -> None:
    """Answer as Windows does if the input and the output are on different drives."""

    def relpath(path: object, start: object) -> str:
        raise ValueError(f"path is on mount 'E:', start on mount 'D:': {path}, {start}")

    monkeypatch.setattr(os.path, "relpath", relpath)


@pytest.fixture(scope="module")
def xvfb() -> Iterator[str]:
    """A virtual X display."""
    with running_xvfb() as display:
        yield display
