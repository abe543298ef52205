"""Large inputs in bounded memory, and unusual environments."""

from __future__ import annotations

import csv
import itertools
import json
import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers.command import COLUMNS, Said, start
from helpers.extent import amount
from helpers.paths import ROOT, SAMPLE
from helpers.videos import times_of
from hypothesis import given
from hypothesis import strategies as st

from fer_stream.analyzer import Analyzer
from fer_stream.rendering.overlay import Overlay
from fer_stream.types import AnalyzedFrame, Frame

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")

# The command with one face in every frame instead of the networks', so that what is measured is the rest.
ONE_FACE = """
import sys
import numpy as np
import fer_stream.analyzer
from fer_stream.types import AnalyzedFrame, Face

class OneFace:
    crop_scale = 1.0
    device = "cpu"
    labels = "ferplus"
    unsure_below = 0.0

    def __init__(self, *_arguments, **_options):
        pass

    def analyze_frames(self, frames, _kind):
        for frame in frames:
            shares = np.roll(np.array([0.7, 0.1, 0.1, 0.05, 0.05, 0, 0], np.float32), frame.index // 7)
            box = np.array([8, 8, 40, 40], np.float32)
            yield AnalyzedFrame(frame, (Face(1, box, np.zeros((5, 2), np.float32), 0.9, shares),))

fer_stream.analyzer.Analyzer = OneFace
from fer_stream.command.cli import main
sys.exit(main(sys.argv[1:]))
"""


def with_one_face(*arguments: object) -> Said:
    line = [sys.executable, "-c", ONE_FACE, *map(str, arguments)]
    done = subprocess.run(line, check=False, capture_output=True, text=True, timeout=600)
    return Said(done.returncode, done.stdout, done.stderr)


def profile_of(*arguments: object) -> dict:
    said = with_one_face(*arguments, "--overwrite", "--profile", "p.json")
    assert said.code == 0 and "note" not in said.err, said.err
    return json.loads(Path("p.json").read_text())


def test_six_hours_take_no_more_memory_than_one(tmp_path, monkeypatch, record_property):
    """Six hours with a frame every thirty seconds, or every second in the full run."""
    monkeypatch.chdir(tmp_path)
    count = amount(720, 21_600)
    with av.open("long.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        step_s = Fraction(6 * 3600, count)
        stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), index % 256, np.uint8), "bgr24")
            frame.pts, frame.time_base = round(index * step_s * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    outputs = ("--save", "o.mp4", "--data", "o.csv", "--chart", "o.png")
    one = profile_of("long.mp4", "--end", "1:00:00", *outputs)
    six = profile_of("long.mp4", *outputs)
    assert six["frames"] == count and one["frames"] == count // 6
    for name, profile in (("one hour", one), ("six hours", six)):
        record_property(name, {key: profile[key] for key in ("frames", "wall_s", "peak_rss_mb")})
    assert six["peak_rss_mb"] < one["peak_rss_mb"] + 100
    with Path("o.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in rows] == list(range(count))
    assert float(rows[-1]["time_s"]) == pytest.approx(6 * 3600 - float(step_s), abs=0.001)
    assert times_of(Path("o.mp4"))[-1] == times_of(Path("long.mp4"))[-1]


def test_ten_thousand_pictures(tmp_path, monkeypatch, record_property):
    monkeypatch.chdir(tmp_path)
    count = amount(600, 10_000)
    Path("first.png").write_bytes(cv2.imencode(".png", np.full((48, 64, 3), 90, np.uint8))[1].tobytes())
    for folder, number in (("few", count // 10), ("many", count)):
        Path(folder).mkdir()
        for index in range(number):
            os.link("first.png", f"{folder}/{index}.png")
    outputs = ("--save", "out", "--data", "o.csv")
    few, many = profile_of("few", *outputs), profile_of("many", *outputs)
    for name, profile in (("few", few), ("many", many)):
        record_property(name, {key: profile[key] for key in ("frames", "wall_s", "peak_rss_mb")})
    assert many["frames"] == count == many["faces"]
    assert many["peak_rss_mb"] < few["peak_rss_mb"] + 60
    with Path("o.csv").open(newline="") as file:
        assert [row["source"] for row in csv.DictReader(file)] == [
            f"many/{index}.png" for index in range(count)
        ]
    assert len(list(Path("out").iterdir())) == count


LARGE = {
    "64 megapixels": ("large.jpg", ("--min-face", "12", "--data", "o.csv"), 1600),
    "8K": ("large.mp4", ("--data", "o.csv"), 1700),
    "8K, saved": ("large.mp4", ("--min-face", "200", "--save", "o.mp4"), 1900),  # x264 takes 350 MB of it
}


@pytest.mark.skipif(amount(0, 1) == 0, reason="takes minutes: make robustness runs it")
@pytest.mark.parametrize("name", LARGE)
def test_large_pictures_and_videos_take_bounded_memory(
    tmp_path, monkeypatch, hopper_bgr, record_property, name
):
    source, options, most_mb = LARGE[name]
    monkeypatch.chdir(tmp_path)
    crowd = np.tile(cv2.resize(hopper_bgr, (640, 720)), (6, 12, 1))
    if source.endswith(".jpg"):
        Path(source).write_bytes(cv2.imencode(".jpg", cv2.resize(crowd, (10_600, 6_000)))[1].tobytes())
    else:
        with av.open(source, "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 7680, 4320, "yuv420p"
            for index in range(14):
                frame = av.VideoFrame.from_ndarray(np.roll(crowd, 4 * index, 1), "bgr24")
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
            container.mux(stream.encode(None))
    process = start((source, *options, "--profile", "p.json"))
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    peak_mb = json.loads(Path("p.json").read_text())["peak_rss_mb"]
    record_property("peak_rss_mb", peak_mb)
    assert peak_mb < most_mb


def test_fifty_faces_in_a_frame(analyzer: Analyzer, hopper_bgr: np.ndarray):
    face = cv2.resize(hopper_bgr[:400, 60:460], (150, 150), interpolation=cv2.INTER_AREA)
    crowd = np.vstack([np.hstack([face] * 10)] * 5)
    faces = analyzer.analyze(crowd)
    assert len(faces) == 50 and len({face.id for face in faces}) == 50
    for found in faces:
        assert found.probabilities.sum() == pytest.approx(1, abs=1e-5)
    drawn = Overlay().annotate(AnalyzedFrame(Frame(crowd, 0, 0.0), faces))
    assert drawn.shape == crowd.shape and (drawn != crowd).any()


# Two at once.


@posix
@pytest.mark.slow
def test_two_runs_on_one_output_leave_one_whole_file(tmp_path, analyzer):
    """Both start before either has written. The second to write finds the other's files and reports that."""
    outputs = ("--end", "2", "--save", tmp_path / "o.mp4", "--data", tmp_path / "o.csv")
    both = [start((SAMPLE, *outputs)) for _ in range(2)]
    ends = [(process.communicate(timeout=120)[1], process.returncode) for process in both]
    assert sorted(code for _, code in ends) == [0, 4]
    (lost,) = (err for err, code in ends if code == 4)
    assert lost.count("\n") == 1 and "exists" in lost
    assert len(times_of(tmp_path / "o.mp4")) == 60
    rows = list(csv.reader((tmp_path / "o.csv").read_text().splitlines()))
    assert rows[0] == COLUMNS and sorted({int(row[1]) for row in rows[1:]}) == list(range(60))
    assert len({(row[1], row[3]) for row in rows[1:]}) == len(rows) - 1


@posix
@pytest.mark.parametrize("extension", [".mp4", ".mkv"])
@pytest.mark.slow
def test_two_that_overwrite_do_not_meet_in_one_file(tmp_path, analyzer, extension):
    saved, table = tmp_path / f"o{extension}", tmp_path / "o.jsonl"
    saved.write_bytes(b"old")
    outputs = ("--end", "2", "--overwrite", "--save", saved, "--data", table)
    both = [start((SAMPLE, *outputs)) for _ in range(2)]
    ends = [(process.communicate(timeout=120)[1], process.returncode) for process in both]
    assert [code for _, code in ends] == [0, 0], ends
    assert len(times_of(saved)) == 60
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    assert len({(row["frame"], row["face_id"]) for row in rows}) == len(rows) >= 60


@posix
def test_two_runs_in_one_folder(tmp_path, analyzer):
    both = [
        start((SAMPLE, "--end", "1", "--save", f"{name}.mp4", "--data", f"{name}.parquet"), cwd=tmp_path)
        for name in "ab"
    ]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "a.parquet", "b.mp4", "b.parquet"}


# Surroundings.


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that nobody may write to")
def test_a_home_that_can_not_be_written_to(tmp_path):
    """Nobody can write to /proc, not even root."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MPL", "XDG", "TMP"))
    }
    environment |= {"HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none", "XDG_CONFIG_HOME": "/proc/none"}
    process = start(
        (SAMPLE, "--end", "0.2", "--save", "o.mp4", "--data", "o.parquet", "--chart", "o.png"),
        cwd=tmp_path, env=environment,
    )  # fmt: skip
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0
    spoken = (f"{SAMPLE}:", "2 people", "  ", "wrote ")
    assert all(line.startswith(spoken) for line in err.splitlines()), err
    assert {path.name for path in tmp_path.iterdir()} == {"o.mp4", "o.parquet", "o.png"}


def test_a_clock_that_is_set_back(fer, loaded, monkeypatch):
    """The time of day goes back by an hour at every call."""
    ticks = itertools.count()
    monkeypatch.setattr(time, "time", lambda: 1.7e9 - 3600 * next(ticks))
    said = fer(SAMPLE, "--end", "0.5", "--save", "o.mkv", "--data", "o.csv", "--profile", "p.json")
    assert said.code == 0
    profile = json.loads(Path("p.json").read_text())
    assert profile["wall_s"] > 0 and profile["first_frame_s"] > 0 and profile["latency_ms"]["p50"] > 0
    assert times_of(Path("o.mkv")) == sorted(set(times_of(Path("o.mkv"))))


@pytest.mark.robustness(faults=0)
def test_no_module_measures_by_the_time_of_day():
    """Only file names and the mark of a fer-batch run may use the time of day.

    Several machines tell from the mark's age whether the run is alive, and they share no other clock.
    """
    mark = ROOT / "fer_stream" / "batch" / "output_folder.py"
    for folder in ("fer_stream", "train"):
        for path in {*(ROOT / folder).rglob("*.py")} - {mark}:
            code = path.read_text(encoding="utf-8")
            assert "time.time(" not in code and "time import time" not in code, path


# Arithmetic.

RATE = st.integers(1, 240)


@pytest.mark.robustness(faults=100)
@given(rate=RATE, frames=st.integers(1, 500), start=st.integers(0, 600), length=st.integers(1, 600))
def test_losses_are_those_that_there_are(rate: int, frames: int, start: int, length: int):
    """A recording of some frames whose header claims `length` more."""
    from fer_stream.sources.missing_frames import Losses

    losses = Losses("clip", Fraction(rate), (start + frames + length) / rate)
    for index in range(start, start + frames):
        losses.add(index / rate, 0.0)
    lines = losses.problems(None)
    if length / rate > max(1.6 / rate, 0.06):
        assert len(lines) == 1 and f"about {length} frame" in lines[0]
    elif length / rate < 1.4 / rate or length / rate < 0.04:
        assert lines == []
    assert losses.problems((start + frames + length) / rate, end_reached=True) == []
    assert losses.problems((start + frames) / rate) == []


@pytest.mark.robustness(faults=100)
@given(rate=RATE, before=st.integers(30, 200), gap=st.integers(1, 400), after=st.integers(30, 200))
def test_a_gap_is_seen_where_it_is_long(rate: int, before: int, gap: int, after: int):
    from fer_stream.sources.missing_frames import Losses

    losses = Losses("clip", Fraction(rate), None)
    for index in [*range(before), *range(before + gap, before + gap + after)]:
        losses.add(index / rate, 0.0)
    lines = losses.problems(None)
    if (gap + 1) / rate > 0.251 and gap > 2:
        assert len(lines) == 1 and f"about {gap} frame" in lines[0]
    elif (gap + 1) / rate < 0.249 or gap < 1:
        assert lines == []


@pytest.mark.robustness(faults=100)
@given(steps_ms=st.lists(st.integers(10, 2000), min_size=20, max_size=100))
def test_a_varying_rate_has_no_gaps(steps_ms: list[int]):
    from fer_stream.sources.missing_frames import Losses

    times_s = [sum(steps_ms[:index]) / 1000 for index in range(len(steps_ms))]
    rate = Fraction(1000 * len(steps_ms), sum(steps_ms))
    losses = Losses("clip", rate, None)
    for time_s, step_ms in zip(times_s, steps_ms, strict=True):
        losses.add(time_s, step_ms / 1000)
    assert losses.problems(None) == []
