"""The live window, on a real display of its own, with real keys."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers.contexts import camera_info
from helpers.display import running_xvfb
from helpers.live_servers import MjpegServer, video_jpegs
from helpers.paths import ROOT

from fer_stream.errors import OutputError
from fer_stream.sinks import WindowSink, display_available
from fer_stream.sinks.captures import Captures
from fer_stream.sinks.window import hud, mirrored
from fer_stream.sources import open_source
from fer_stream.types import AnalyzedFrame, Face, Frame

INFO = camera_info(size_wh=(640, 360))
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="a display is optional on Linux only")


@linux_only
@pytest.mark.parametrize("display", ["", ":4711", "nonsense", "localhost:59000.0"])
def test_a_missing_display_is_one_line(monkeypatch, display):
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not display_available()
    with pytest.raises(OutputError, match=r"no display.*--show"):
        WindowSink(INFO)


@linux_only
def test_a_display_that_never_answers_is_one_line(monkeypatch):
    monkeypatch.setattr("fer_stream.sinks.window.display._ANSWER_S", 0.5)
    for port in range(6100, 6200):  # display 100 and so on
        with socket.socket() as silent, contextlib.suppress(OSError):
            silent.bind(("127.0.0.1", port))
            silent.listen()
            monkeypatch.setenv("DISPLAY", f"127.0.0.1:{port - 6000}.0")
            monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
            with pytest.raises(OutputError, match=r"no display.*--show"):
                WindowSink(INFO)
            return
    pytest.skip("no port is free")


# The start of the programs below. It keeps every picture that the window shows in `shown`.
HEAD = """
    import contextlib, ctypes, os, subprocess, sys, time
    import cv2
    import numpy as np
    from fer_stream.rendering.overlay import Overlay
    from fer_stream.sinks import WindowSink
    from fer_stream.sources import SourceInfo, SourceStatus
    from fer_stream.status import RunStatus
    from fer_stream.types import AnalyzedFrame, Face, Frame

    info = SourceInfo("camera 0", "camera", None, (640, 360), None, None, None, None)
    status, overlay, shown = RunStatus(), Overlay(), []
    show = cv2.imshow
    cv2.imshow = lambda title, canvas: (shown.append(canvas), show(title, canvas))
    probabilities = np.array([0.02, 0.02, 0.02, 0.88, 0.02, 0.02, 0.02], np.float32)
    box = np.array([60, 120, 160, 240], np.float32)
    face = Face(1, box, np.zeros((5, 2), np.float32), 0.9, probabilities)
    began_s, index = time.monotonic(), 0

    def write(sink, red=200, blue=30):
        "Writes the next frame: red on the left, blue on the right, a face on the left."
        global index
        bgr = np.zeros((360, 640, 3), np.uint8)
        bgr[:, :320, 2], bgr[:, 320:, 0] = red, blue
        now_s = time.monotonic()
        analyzed = AnalyzedFrame(Frame(bgr, index, now_s - began_s, "camera 0", now_s), (face,))
        index += 1
        image = overlay.annotate(analyzed)
        sink.write(analyzed, image)
        time.sleep(0.02)
        return analyzed, image

    def window():
        found = subprocess.run(["xdotool", "search", "--name", "^fer-stream"], capture_output=True, text=True)
        return found.stdout.split()[-1]

    def press(sink, key, happened, feed=write):
        "Presses a key until it has had its effect."
        for step in range(400):
            feed(sink)
            if happened():
                return
            if step % 40 == 5:
                subprocess.run(["xdotool", "windowfocus", window(), "key", key], capture_output=True)
        raise SystemExit(f"nothing happened on {key}")
"""


def run(program: str, display: str, folder: Path) -> str:
    """Run a program in its own process, as windows require. Return its output."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(HEAD) + textwrap.dedent(program)],
        env=os.environ | {"DISPLAY": display, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@linux_only
def test_a_display_that_refuses_is_one_line_and_its_cookie_opens_it(tmp_path, monkeypatch):
    def entry(family: int, address: bytes, cookie: bytes) -> bytes:
        fields = (address, b"", b"MIT-MAGIC-COOKIE-1", cookie)
        parts = (len(field).to_bytes(2, "big") + field for field in fields)
        return family.to_bytes(2, "big") + b"".join(parts)

    right, wrong, cut_off = (tmp_path / name for name in ("right", "wrong", "cut off"))
    other_host = entry(0, bytes([192, 0, 2, 1]), bytes(16))
    right.write_bytes(other_host + entry(256, socket.gethostname().encode(), b"0123456789abcdef"))
    wrong.write_bytes(entry(0xFFFF, b"", b"another cookie ."))
    cut_off.write_bytes(right.read_bytes()[:-60])
    with running_xvfb("-auth", str(right)) as display:
        monkeypatch.setenv("DISPLAY", display)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        for path in (wrong, cut_off, tmp_path / "missing"):
            monkeypatch.setenv("XAUTHORITY", str(path))
            with pytest.raises(OutputError, match=rf"{display} refuses .*XAUTHORITY") as error:
                WindowSink(INFO)
            assert "\n" not in str(error.value)
        monkeypatch.setenv("XAUTHORITY", str(right))
        program = """
            from fer_stream.sinks import display_available
            assert all(display_available() for _ in range(20)), "the server starts again each time"
            with WindowSink(info) as sink:
                write(sink)
                print(sink.stop_requested)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(-1, os.WNOHANG)
                    print("the probe still runs")
        """
        assert run(program, display, tmp_path) == "False\n"


@linux_only
def test_the_window_is_there_before_the_first_frame_and_closes_with_its_button(xvfb, tmp_path):
    program = """
        def push_close_button():
            "What a window manager sends when the button is pushed."
            x11 = ctypes.CDLL("libX11.so.6")
            x11.XOpenDisplay.restype = ctypes.c_void_p
            display = ctypes.c_void_p(x11.XOpenDisplay(None))
            x11.XInternAtom.restype = ctypes.c_ulong
            atom = lambda name: x11.XInternAtom(display, name, 0)
            event = (ctypes.c_long * 24)()
            event[0], event[4] = 33, int(window())  # ClientMessage, to the window
            event[5], event[6] = atom(b"WM_PROTOCOLS"), 32
            event[7] = atom(b"WM_DELETE_WINDOW")
            x11.XSendEvent(display, ctypes.c_ulong(int(window())), 0, ctypes.c_long(0), event)
            x11.XFlush(display)

        with WindowSink(info) as sink:
            print(cv2.getWindowProperty("fer-stream: camera 0", cv2.WND_PROP_VISIBLE), sink.outputs())
            for _ in range(5):
                write(sink)
            assert not sink.stop_requested
            push_close_button()
            for _ in range(200):
                write(sink)
            print(sink.stop_requested)
            write(sink)
        sink.close()
    """
    assert run(program, xvfb, tmp_path) == "1.0 []\nTrue\n"


@linux_only
@pytest.mark.parametrize("key", ["q", "Escape"])
def test_a_key_stops_the_run_while_no_frame_comes(xvfb, tmp_path, key):
    program = f"""
        with WindowSink(info) as sink:
            write(sink)
            idle = lambda sink: (sink.idle(), time.sleep(0.02))
            press(sink, {key!r}, lambda: sink.stop_requested, feed=idle)
            print("stopped")
    """
    assert run(program, xvfb, tmp_path) == "stopped\n"


@linux_only
def test_keys_that_are_not_characters_do_nothing(xvfb, tmp_path):
    program = """
        with WindowSink(info, folder="saved") as sink:
            write(sink)
            press(sink, "h", lambda: sink._shows_keys)
            # As bytes their codes end like Q, R, S, T and c.
            keys = ["Left", "Up", "Right", "Down", "Insert"]
            for key in keys:
                subprocess.run(["xdotool", "windowfocus", window(), "key", key], capture_output=True)
                for _ in range(10):  # the window sees only the last of several keys
                    write(sink)
            press(sink, "H", lambda: not sink._shows_keys)  # it came after them
            print(sink.stop_requested, sink.outputs(), sink.recordings())
    """
    assert run(program, xvfb, tmp_path) == "False [] []\n"


@linux_only
def test_stills_and_recordings_are_never_mirrored_or_overwritten(xvfb, tmp_path):
    program = """
        with WindowSink(info, status=status, folder="saved") as sink:
            write(sink)
            press(sink, "s", lambda: len(sink.outputs()) == 1)
            press(sink, "m", lambda: shown[-1][20, 600, 2] > 150)
            press(sink, "s", lambda: len(sink.outputs()) == 2)
            press(sink, "r", lambda: sink.recordings())
            first_s = time.monotonic()
            flicker = lambda sink: write(sink, red=200 - 20 * (index % 2))
            press(sink, "space", lambda: (shown[-1] == shown[-2]).all(), feed=flicker)
            held = shown[-1]
            for _ in range(30):
                write(sink, red=90)  # the picture is held, the recording goes on
            assert np.abs(shown[-1][200:, 450:].astype(int) - held[200:, 450:]).max() == 0
            lasted_s = time.monotonic() - first_s
            press(sink, "r", lambda: not sink.recordings())
            print(f"{lasted_s:.3f}")
        assert len(status.notices_since(0)) == 4, status.notices
    """
    lasted_s = float(run(program, xvfb, tmp_path))
    made = sorted((tmp_path / "saved").iterdir())
    assert [path.suffix for path in made].count(".jpg") == 2
    for path in made:
        if path.suffix == ".jpg":
            picture = cv2.imread(str(path))
            assert picture[20, 20, 2] > 150 and picture[20, 600, 2] < 60, "red stays on the left"
    (video,) = [path for path in made if path.suffix == ".mp4"]
    with av.open(str(video)) as container:
        frames = list(container.decode(video=0))
        length_s = container.duration / av.time_base
    assert frames[0].pts == 0
    assert lasted_s - 0.1 < length_s < lasted_s + 3
    pictures = [frame.to_ndarray(format="bgr24") for frame in frames]
    assert pictures[0][20, 20, 2] > 150 and pictures[0][20, 600, 2] < 60
    assert sum(60 < picture[20, 20, 2] < 120 for picture in pictures) >= 30, "recorded while it was held"


@linux_only
def test_keys_change_the_picture_and_the_window_shows_an_outage(xvfb, tmp_path):
    program = """
        with WindowSink(info, status=status) as sink:
            analyzed, image = write(sink)
            inner = slice(40, 300), slice(8, 632)  # between the lines at the top and the bottom
            assert (shown[-1][inner] == image[inner]).all()
            plain = Overlay(show_bars=False).annotate(analyzed)
            press(sink, "b", lambda: (shown[-1][inner] == plain[inner]).all())
            press(sink, "B", lambda: (shown[-1][inner] == image[inner]).all())
            bright = shown[-1].mean()
            press(sink, "h", lambda: shown[-1].mean() < 0.8 * bright)
            press(sink, "h", lambda: shown[-1].mean() > 0.95 * bright)

            status.source = SourceStatus(False, 2, 7.0, "reconnecting, attempt 2, no picture for 7 s")
            time.sleep(0.02)
            sink.idle()
            amber = (np.abs(shown[-1][:60].astype(int) - (60, 176, 250)) < 12).all(2).sum()
            status.source = SourceStatus()
            time.sleep(0.02)
            sink.idle()
            calm = (np.abs(shown[-1][:60].astype(int) - (60, 176, 250)) < 12).all(2).sum()
            print(amber > 100, calm)

            subprocess.run(["xdotool", "windowsize", "--sync", window(), "600", "700"])
            for _ in range(30):
                write(sink)
            print(shown[-1].shape, shown[-1][100, 20].tolist() == shown[-1][600, 500].tolist())
            rows = np.flatnonzero(shown[-1][:, 20, 2] > 150)
            print(abs(len(rows) / 600 - 360 / 640) < 0.01)
    """
    assert run(program, xvfb, tmp_path) == "True 0\n(700, 600, 3) True\nTrue\n"


@linux_only
def test_the_command_shows_a_camera_and_obeys_its_keys(xvfb, tmp_path, analyzer):
    environment = os.environ | {"DISPLAY": xvfb, "PYTHONPATH": str(ROOT)}
    sample = ROOT / "samples" / "two-faces-720p.mp4"

    def xdotool(*arguments: str) -> list[str]:
        command = ["xdotool", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.stdout.split()

    def press(key: str, happened: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + 30
        while not happened():
            assert time.monotonic() < deadline_s, f"nothing happened on {key}"
            for window in xdotool("search", "--name", "^fer-stream")[-1:]:
                xdotool("windowfocus", window, "key", key)
            waited_s = time.monotonic() + 3
            while time.monotonic() < waited_s and not happened():
                time.sleep(0.05)

    with MjpegServer(video_jpegs(sample, 25), frame_s=0.04) as server:
        command = [sys.executable, "-m", "fer_stream", server.address, "--data", "table.csv"]
        process = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        press("s", lambda: any(tmp_path.glob("*.jpg")))
        press("r", lambda: any(tmp_path.glob("*.mp4")))
        time.sleep(1)
        press("q", lambda: process.poll() is not None)
        out, err = process.communicate()
    assert (process.returncode, out) == (0, ""), err
    assert "Traceback" not in err and "QFont" not in err
    (still,), (video,) = tmp_path.glob("*.jpg"), tmp_path.glob("*.mp4")
    assert cv2.imread(str(still)).shape == (720, 1280, 3)
    assert all(f"wrote {path.name}" in err for path in (still, video))
    with av.open(str(video)) as container:
        assert len(list(container.decode(video=0))) >= 1


def test_a_captured_recording_begins_at_the_key_with_the_sound_of_that_moment(tmp_path):
    said: list[str] = []
    with open_source(ROOT / "samples" / "two-faces-720p.mp4", end_s=2.5) as source:
        captures = Captures(tmp_path, source.info, said.append)
        for frame in source:
            if frame.index in (25, 50):
                captures.toggle_recording(frame.time_s)
            captures.write(AnalyzedFrame(frame, ()), frame.bgr)
        captures.close()
    (path,) = captures.outputs()
    with av.open(str(path)) as container:
        times_s = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        sound_s = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    assert len(times_s) == 25 and times_s[0] == 0
    assert sound_s == pytest.approx(times_s[-1] + times_s[1], abs=0.1)
    assert said == [f"recording {path}", f"recording saved: {path}, 0:01"] and captures.problems == []


def test_captures_get_unused_names_and_failures_are_reported(tmp_path):
    said: list[str] = []
    captures = Captures(tmp_path / "new", INFO, said.append)
    picture = np.zeros((4, 4, 3), np.uint8)
    for _ in range(5):
        captures.save_still(picture)
    assert len({*captures.outputs()}) == len(list((tmp_path / "new").glob("fer-stream_*.jpg"))) == 5
    assert captures.problems == []

    (tmp_path / "file").touch()
    nowhere = Captures(tmp_path / "file", INFO, said.append)
    nowhere.save_still(picture)
    nowhere.toggle_recording(1.0)
    assert len(nowhere.problems) == 2 and said[-2:] == nowhere.problems
    assert nowhere.outputs() == nowhere.recordings() == [] and not nowhere.recording


def test_faces_of_a_mirrored_frame_are_mirrored_too():
    bgr = np.zeros((40, 100, 3), np.uint8)
    bgr[10:20, 5:25] = 200
    landmarks = np.array([[8, 12], [20, 12], [14, 14], [10, 18], [18, 18]], np.float32)
    probabilities = np.full(7, 1 / 7, np.float32)
    face = Face(3, np.array([5, 10, 25, 20], np.float32), landmarks, 0.9, probabilities)
    turned = mirrored(AnalyzedFrame(Frame(bgr, 4, 1.5), (face,)))
    (other,) = turned.faces
    left, top, right, bottom = other.box_xyxy.astype(int)
    assert (turned.frame.bgr[top:bottom, left:right] == 200).all() and turned.frame.bgr.sum() == bgr.sum()
    assert other.landmarks_xy.tolist() == [[80, 12], [92, 12], [86, 14], [82, 18], [90, 18]]
    assert (other.id, turned.frame.index) == (3, 4)
    assert (bgr[:, :50].sum() == bgr.sum()).all(), "the frame itself stays"


@pytest.mark.parametrize(
    "size_wh", [(64, 64), (320, 180), (640, 360), (1280, 720), (3840, 2160), (300, 1200)]
)
def test_the_display_fits_windows_of_every_size(size_wh):
    ground = np.full((size_wh[1], size_wh[0], 3), 90, np.uint8)
    everything = hud.Hud(
        status="24.8 frames/s  ·  1041 ms latency  ·  300 dropped  ·  cuda:0",
        recording="1:02:03",
        warning="reconnecting, attempt 12, no picture for 320 s",
        note="recording saved: a/very/long/folder/name/fer-stream_2026-01-31_14-05-09.mp4, 1:02:03",
        held=True,
        shows_keys=True,
    )
    canvas = ground.copy()
    hud.draw(canvas, everything)
    assert (canvas != ground).any()
    picture = np.full((30, 40, 3), 255, np.uint8)
    fitted = hud.fitted(picture, size_wh)
    assert fitted.shape == ground.shape
    rows, columns = (
        np.flatnonzero(fitted[:, size_wh[0] // 2, 0] == 255),
        np.flatnonzero(fitted[size_wh[1] // 2, :, 0] == 255),
    )
    assert abs(len(columns) / len(rows) - 4 / 3) < 0.05
