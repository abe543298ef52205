"""The lines that are printed during a live run, in the panel and without it."""

from __future__ import annotations

import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.contexts import camera_info, make_info
from helpers.contrast import contrast
from helpers.faces import make_face
from rich.console import Console

from fer_stream.command.progress import Progress, live
from fer_stream.command.progress.live import Panel
from fer_stream.command.progress.people import people_lines
from fer_stream.expressions import EXPRESSIONS, UNSURE
from fer_stream.pipeline import Summary
from fer_stream.sources import SourceKind, SourceStatus
from fer_stream.status import Recording, RunStatus
from fer_stream.types import AnalyzedFrame, Face, Frame

INFO = camera_info(size_wh=None)


def frame(count: int, index: int = 0, *, unsure: bool = False) -> AnalyzedFrame:
    probabilities = np.random.default_rng(index).dirichlet(np.ones(7), max(count, 1)).astype(np.float32)
    faces = tuple(
        Face(at + 1, np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 0.9, probabilities[at], unsure)
        for at in range(count)
    )
    return AnalyzedFrame(Frame(np.zeros((4, 4, 3), np.uint8), index, index / 25), faces)


def status_of_a_run() -> RunStatus:
    status = RunStatus("cpu", dropped=3, recordings=(Recording(Path("folder/annotated.mp4"), 61.5),))
    for index in range(51):
        status.frame_done(index / 25, 0.041, now_s=100 + index / 25)
    return status


def panel_lines(
    status: RunStatus, faces: int, width: int, height: int, encoding: str = "utf-8", *, unsure: bool = False
) -> list[str]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, force_terminal=True, width=width, height=height)
    panel = Panel(INFO, status, console, "Ctrl-C ends it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "time", SimpleNamespace(monotonic=lambda: 102.0))
        panel.update(frame(faces, unsure=unsure))
    return panel.render(width, height - 1, now_s=102.0).plain.splitlines()


@pytest.mark.parametrize("faces", [0, 1, 6, 7, 10, 80])
@pytest.mark.parametrize("size", [(80, 24), (120, 40), (40, 10), (20, 6)])
def test_the_panel_fits_the_terminal(faces, size):
    lines = panel_lines(status_of_a_run(), faces, *size)
    assert max(map(len, lines)) <= size[0]
    assert len(lines) < size[1]


@pytest.mark.parametrize("faces", [1, 6, 7, 10, 80])
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_the_panel_names_faces_where_there_is_room(faces, size):
    lines = panel_lines(status_of_a_run(), faces, *size)
    assert any("person 1 " in line for line in lines)


def test_the_panel_shows_the_state_of_the_run_and_the_recording():
    lines = panel_lines(status_of_a_run(), 1, 80, 24)
    assert lines[0].startswith("camera 0") and lines[0].endswith("● 1:02  annotated.mp4")
    assert lines[1] == "0:02 · 25.0 frames/s · 41 ms latency · 3 dropped · cpu"
    bars = {line.split()[0]: line for line in lines if line.split() and line.split()[0] in EXPRESSIONS}
    assert list(bars) == list(EXPRESSIONS)
    shares = frame(1).faces[0].probabilities
    assert [int(line.split()[-2]) for line in bars.values()] == [
        round(100 * float(share)) for share in shares
    ]
    lengths = [line.count("█") for line in bars.values()]
    assert np.argmax(lengths) == np.argmax(shares)
    assert lines[-1] == "Ctrl-C ends it"


def test_an_unsure_face_is_called_unsure_and_keeps_its_bars():
    sure, unsure = (panel_lines(status_of_a_run(), 1, 80, 24, unsure=unsure) for unsure in (False, True))
    (title,) = [line for line in unsure if line.startswith("person 1")]
    assert title.split() == ["person", "1", "unsure"]
    assert [line.count("█") for line in unsure] == [line.count("█") for line in sure]
    assert any("█" in line for line in unsure)
    crowd = panel_lines(status_of_a_run(), 80, 80, 24, unsure=True)
    assert any("person 1  unsure" in line for line in crowd) and not any("%" in line for line in crowd)


def test_faces_of_a_crowd_are_named_or_counted():
    lines = panel_lines(status_of_a_run(), 80, 80, 24)
    named = sum(line.count("person ") for line in lines)
    (more,) = [line for line in lines if line.startswith("and ")]
    assert named + int(more.split()[1]) == 80 and named >= 30


def test_an_outage_replaces_numbers_and_faces():
    status = status_of_a_run()
    status.source = SourceStatus(False, 2, 9.0, "reconnecting, attempt 2, no picture for 9 s")
    lines = panel_lines(status, 2, 80, 24)
    assert lines[1] == "0:11 · 3 dropped · cpu", "the clock goes on"
    assert "reconnecting, attempt 2" in lines[2]
    assert not any("person" in line for line in lines)


def test_the_panel_works_without_block_characters():
    lines = panel_lines(status_of_a_run(), 1, 80, 24, encoding="ascii")
    assert any("#" in line for line in lines) and not any("█" in line for line in lines)


def test_plain_lines_are_printed_without_a_terminal(monkeypatch, capfd):
    monkeypatch.setattr(live, "LINE_EVERY_S", 0.0)
    status = status_of_a_run()
    with Progress(INFO, status, quiet=False) as progress:
        progress.update(frame(2))
        progress.update(frame(2, unsure=True))
        status.notice("still saved: a.jpg")
        progress.update()
        status.source = SourceStatus(False, 1, 1.0, "reconnecting, attempt 1, no picture for 1 s")
        monkeypatch.setattr(live, "LINE_EVERY_S", 60.0)
        for _ in range(3):
            progress.update()
        status.source = SourceStatus()
        progress.update()
    said = capfd.readouterr().err.splitlines()
    assert "\x1b" not in "".join(said)
    assert said[0].startswith("0:02: ") and "2 people: 1 sad 36 %, 2 fear 40 %" in said[0]
    assert said[0].endswith("recording folder/annotated.mp4 1:02")
    assert "2 people: 1 unsure, 2 unsure; " in said[1]
    assert said[2] == "still saved: a.jpg"
    assert said[-2:] == ["reconnecting, attempt 1, no picture for 1 s", "the source is back"]
    assert len(said) == 6


def test_progress_lines_are_rare_and_quiet_prints_none(capfd):
    for quiet in (False, True):
        status = status_of_a_run()
        with Progress(INFO, status, quiet=quiet) as progress:
            for index in range(50):
                progress.update(frame(1, index))
            if quiet:
                status.notice("still saved: a.jpg")
                progress.update()
    assert capfd.readouterr().err == ""


def test_the_frame_rate_is_that_of_the_last_seconds():
    status = RunStatus()
    assert status.frames_per_s(0.0) == 0.0
    for index in range(200):
        status.frame_done(index / 50, 0.01, now_s=index / 50)
    for index in range(40):
        status.frame_done(4 + index / 10, 0.2, now_s=4 + index / 10)
    assert status.frames_per_s(7.9) == pytest.approx(10, rel=0.02)
    assert status.latency_s == pytest.approx(0.2, abs=0.01)
    assert 0 < status.frames_per_s(8.9) < 8, "it falls while nothing comes"
    assert status.frames_per_s(20.0) == 0.0


def test_the_summary_has_a_line_per_person_and_counts_unsure():
    summary = Summary(faces=3)
    for index in range(10):
        faces = [make_face(1, "happy" if index < 6 else "unsure")]
        faces += [make_face(2, "sad")] if index >= 4 else []
        faces += [make_face(3, "fear")] if index == 0 else []
        summary.people.add(faces, 0.2, index / 5)
        for face in faces:
            summary.label_s[face.label] += 0.2
    assert [line.plain for line in people_lines(summary)] == [
        "person 1    seen 2.0 s  happy 60 %, unsure 40 %",
        "person 2    seen 1.2 s  sad 100 %",
        "+1 person seen for under 0.5 s",
        "all people  seen 3.4 s  happy 35 %, sad 35 %, unsure 24 %, fear 6 %",
    ]


def test_pictures_and_people_have_their_percentages_in_one_form(capfd):
    summary = Summary(frames=250, faces=250, wall_s=1.0)
    summary.label_s |= {"happy": 249.0, "sad": 1.0}
    with Progress(make_info(kind=SourceKind.IMAGES), RunStatus(), quiet=False) as progress:
        progress.summarize(summary, [])
    said = capfd.readouterr().err
    assert "happy     99 %  " in said and "100 %" not in said
    summary.people.add([make_face(1, "happy")], 249.0, 249.0)
    summary.people.add([make_face(1, "sad")], 1.0, 250.0)
    assert people_lines(summary)[0].plain.endswith("happy 99 %")


def test_everything_coloured_is_readable_in_a_black_and_in_a_white_terminal(monkeypatch):
    printed = io.StringIO()
    console = Console(file=printed, force_terminal=True, color_system="truecolor", width=100, height=40)
    status = status_of_a_run()
    panel = Panel(INFO, status, console, "Ctrl-C ends it")
    faces = tuple(make_face(at + 1, label) for at, label in enumerate((*EXPRESSIONS, UNSURE)))
    panel.update(AnalyzedFrame(Frame(np.zeros((4, 4, 3), np.uint8), 0, 0.0), faces))
    status.source = SourceStatus(True, 1, 1.0, "no picture for 1 s")
    for height in (39, 20):  # bars, and a line for each face
        console.print(panel.render(100, height, now_s=102.0))
    summary = Summary(frames=8, faces=8, wall_s=1.0, problems=["1 picture can't be read"])
    summary.label_s |= dict.fromkeys((*EXPRESSIONS, UNSURE), 1.0)
    summary.people.add(faces, 1.0, 0.0)
    for kind in (SourceKind.IMAGES, SourceKind.VIDEO):
        progress = Progress(make_info(kind=kind), quiet=False)
        monkeypatch.setattr(progress, "_console", console)
        progress.summarize(summary, [Path("annotated.mp4")])

    codes = re.findall(r"\x1b\[([\d;]+)m", printed.getvalue())
    colors = {match[1] for code in codes if (match := re.search(r"38;2;(\d+;\d+;\d+)", code))}
    assert len(colors) == 7 + 3, "the expressions, a note, a file, and the recording"
    for color in colors:
        shown = "#{:02x}{:02x}{:02x}".format(*map(int, color.split(";")))
        assert min(contrast(shown, "#000000"), contrast(shown, "#ffffff")) >= 4, shown
    plain = {part for code in codes if "38;2" not in code for part in code.split(";")}
    assert plain <= {"0", "1", "2", "39"}, "no colour that each terminal chooses for itself"
