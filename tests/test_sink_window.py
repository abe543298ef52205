"""The live window, on a real display of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from fer_stream.errors import OutputError
from fer_stream.sinks import WindowSink, display_available

ROOT = Path(__file__).parents[1]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="a display is optional on Linux only")


@linux_only
@pytest.mark.parametrize("display", ["", ":4711", "nonsense", "localhost:59000.0"])
def test_no_display_is_one_line(monkeypatch, display):
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not display_available()
    with pytest.raises(OutputError, match=r"no display.*--show"):
        WindowSink("fer-stream")


@pytest.fixture(scope="module")
def xvfb() -> Iterator[str]:
    """A virtual X display."""
    if shutil.which("Xvfb") is None:
        pytest.skip("needs the program Xvfb")
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1600x1000x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[writer], stderr=subprocess.DEVNULL) as server:
        os.close(writer)
        with os.fdopen(reader) as numbers:
            number = numbers.readline().strip()
        yield f":{number}"
        server.terminate()


def run(program: str, display: str, *, expect: int = 0) -> str:
    """Runs a program with the display in a process of its own, as windows ask for; returns its output."""
    head = """
        import sys, subprocess, numpy as np
        from fer_stream.sinks import WindowSink, display_available
        from fer_stream.types import AnalyzedFrame, Frame
        image = np.full((90, 160, 3), (20, 200, 90), np.uint8)
        frame = AnalyzedFrame(Frame(image, 0, 0.0), ())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(program)],
        env=os.environ | {"DISPLAY": display, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == expect, done.stderr
    return done.stdout


@linux_only
def test_a_window_shows_the_picture_and_closes(xvfb):
    program = """
        import cv2
        assert display_available()
        with WindowSink("fer-stream") as sink:
            for _ in range(5):
                sink.write(frame, image)
            x, y, width, height = cv2.getWindowImageRect("fer-stream")
            assert not sink.stop_requested and sink.outputs() == []
            print(width > 50, height > 50)
        sink.close()
    """
    assert run(program, xvfb) == "True True\n"


@linux_only
@pytest.mark.parametrize("key", ["q", "Escape"])
def test_a_key_asks_to_stop(xvfb, key):
    if shutil.which("xdotool") is None:
        pytest.skip("needs the program xdotool")
    program = f"""
        import time
        with WindowSink("fer-stream") as sink:
            for step in range(400):
                sink.write(frame, image)
                if step % 20 == 10:
                    find = ["xdotool", "search", "--name", "fer-stream"]
                    window = subprocess.run(find, capture_output=True, text=True).stdout.split()
                    focus = ["xdotool", "windowfocus", window[-1], "key", {key!r}]
                    subprocess.run(focus, capture_output=True)
                if sink.stop_requested:
                    break
                time.sleep(0.01)
            print(sink.stop_requested)
            sink.write(frame, image)
    """
    assert run(program, xvfb) == "True\n"


@linux_only
def test_closing_the_window_asks_to_stop(xvfb):
    program = """
        import cv2
        with WindowSink("fer-stream") as sink:
            sink.write(frame, image)
            window_closed_by_user = cv2.destroyWindow("fer-stream")
            cv2.namedWindow("another")
            real, cv2.imshow = cv2.imshow, lambda *_: None
            sink.write(frame, image)
            print(sink.stop_requested)
    """
    assert run(program, xvfb) == "True\n"
