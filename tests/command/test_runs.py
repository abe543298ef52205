"""Runs on the sample clip, real videos and pictures: the files that they leave, and what they print."""

from __future__ import annotations

import csv
import json
import shutil
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers.command import COLUMNS, files_below, posix
from helpers.paths import SAMPLE
from helpers.tables import csv_rows
from helpers.videos import audio_s, pictures_of, psnr_db, times_of

from fer_stream.expressions import EXPRESSIONS, LABELS


def part_of_sample() -> list[int]:
    return [index for index, time_s in enumerate(times_of(SAMPLE)) if 1.0 <= time_s < 1.5]


def test_the_saved_video_has_every_frame_of_the_part(made):
    source_times, part = times_of(SAMPLE), part_of_sample()
    first_s = source_times[part[0]]
    assert times_of(made / "o.mp4") == [source_times[index] - first_s for index in part]
    assert audio_s(made / "o.mp4") == pytest.approx(0.5, abs=0.1)
    wanted = pictures_of(SAMPLE, part[0], part[-1] + 1)
    for picture, source_picture in zip(pictures_of(made / "o.mp4"), wanted, strict=True):
        assert picture.shape == source_picture.shape
        corner = np.s_[-200:, -150:]  # far from both faces and their bars
        assert psnr_db(picture[corner], source_picture[corner]) > 33
        assert (cv2.absdiff(picture, source_picture) > 60).mean() > 0.002, "nothing is drawn"


def test_the_table_names_frames_and_times_of_the_source(made):
    rows = csv_rows(made / "o.csv")
    assert list(rows[0]) == COLUMNS
    part, source_times = part_of_sample(), times_of(SAMPLE)
    assert sorted({int(row["frame"]) for row in rows}) == part
    for row in rows:
        assert row["source"] == str(SAMPLE)
        assert float(row["time_s"]) == pytest.approx(float(source_times[int(row["frame"])]), abs=1e-6)
        shares = [float(row[name]) for name in EXPRESSIONS]
        assert sum(shares) == pytest.approx(1, abs=1e-5)
        assert row["expression"] == EXPRESSIONS[int(np.argmax(shares))]
        assert float(row["confidence"]) == pytest.approx(max(shares), abs=1e-6)
        assert 0 <= float(row["x1"]) < float(row["x2"]) <= 1280
        assert 0 <= float(row["y1"]) < float(row["y2"]) <= 720
    by_face = {face: [row for row in rows if row["face_id"] == face] for face in ("1", "2")}
    assert {face: len(of_face) for face, of_face in by_face.items()} == {"1": len(part), "2": len(part)}
    crops = {str(path.relative_to(made / "crops")) for path in (made / "crops").rglob("*.jpg")}
    assert crops == {str(Path(row["face_id"], f"{int(row['frame']):06d}.jpg")) for row in rows}


def test_stills_and_chart_are_pictures(made):
    stills = sorted((made / "stills").iterdir())
    assert len(stills) == 3
    assert cv2.imread(str(stills[0])).shape == (720, 1280, 3)
    assert cv2.imread(str(made / "o.jpg")).shape[1] > 1000


def test_the_profile_has_plausible_figures(made):
    profile = json.loads((made / "p.json").read_text())
    assert set(profile) == {
        *("frames", "wall_s", "fps", "dropped", "faces", "stages_ms", "latency_ms"),
        *("peak_rss_mb", "first_frame_s", "device"),
    }
    assert profile["device"] in ("cpu", "cuda:0")
    assert profile["frames"] == len(part_of_sample())
    assert profile["faces"] == 2 and profile["dropped"] == 0
    assert profile["fps"] == pytest.approx(profile["frames"] / profile["wall_s"], rel=0.02)
    for stage in ("decode", "detect", "classify", "draw", "video", "table"):
        assert set(profile["stages_ms"][stage]) == {"mean", "p50", "p95"}
        assert 0 < profile["stages_ms"][stage]["p50"] <= profile["stages_ms"][stage]["p95"]
    assert set(profile["latency_ms"]) == {"p50", "p95"}
    assert 50 < profile["peak_rss_mb"] < 4000 and 0 < profile["first_frame_s"] < 120


def test_the_summary_names_faces_shares_and_files(made):
    lines = (made / "said.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith(f"{SAMPLE}: 15 frames in ")
    assert lines[1].startswith("2 people; percentages are shares of the time")
    people = [line for line in lines[2:] if line.startswith("  person ")]
    assert [line.split()[1] for line in people] == ["1", "2"]
    for line in people:
        seen_s, _, named = line.split("seen")[1].partition(" s ")
        assert float(seen_s) == pytest.approx(len(part_of_sample()) / 30, abs=0.06)
        shares = [part.split() for part in named.split(",")]
        assert all(label in LABELS for label, *_ in shares)
        assert sum(int(share) for _, share, _ in shares) <= 101
    wrote = [line.removeprefix("wrote ") for line in lines if line.startswith("wrote ")]
    names = ("o.mp4", "o.csv", "o.jpg", "crops", "stills", "p.json")
    assert wrote == [str(made / name) for name in names]


@pytest.mark.parametrize("name", ["portrait-360p.mp4", "selfie-360p.mp4", "street-1080p.mp4"])
def test_real_videos_keep_frames_times_and_sound(fer, loaded, shared_data, name):
    video = shared_data / "videos" / name
    said = fer(video, "--start", "1", "--end", "1.2", "--save", "o.mp4", "--data", "o.jsonl")
    assert said.code == 0 and "note" not in said.err
    part = [time_s for time_s in times_of(video) if 1 <= time_s < Fraction("1.2")]
    assert times_of(Path("o.mp4")) == [time_s - part[0] for time_s in part]
    assert audio_s(Path("o.mp4")) == pytest.approx(0.2, abs=0.1)
    lines = [json.loads(line) for line in Path("o.jsonl").read_text().splitlines()]
    assert sorted({line["time_s"] for line in lines}) == [round(float(time_s), 6) for time_s in part]
    assert all(line["face_id"] for line in lines), "there is a face in every frame"


def test_all_table_formats_agree(fer, loaded):
    import pyarrow.parquet

    part = (SAMPLE, "--end", "0.1")
    assert fer(*part, "--data", "o.csv").code == 0
    assert fer(*part, "--data", "o.jsonl").code == 0
    assert fer(*part, "--data", "o.parquet").code == 0
    said = fer(*part, "--data", "-")
    piped = [json.loads(line) for line in said.out.splitlines()]
    assert said.code == 0 and "faces" in said.err
    lines = [json.loads(line) for line in Path("o.jsonl").read_text().splitlines()]
    table = pyarrow.parquet.read_table("o.parquet")
    with Path("o.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == list(lines[0]) == table.column_names == COLUMNS
    assert len(lines) == len({(line["frame"], line["face_id"]) for line in lines}) == 6
    assert table.to_pylist() == lines == piped
    assert rows[1:] == [[str(value) for value in line.values()] for line in lines]
    assert files_below(Path.cwd()) == {"o.csv", "o.jsonl", "o.parquet"}


def test_a_frame_without_a_face_has_one_row(fer, loaded):
    with av.open("blank.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 96, 3), 90, np.uint8))))
        container.mux(stream.encode(None))
    said = fer("blank.mp4", "--data", "o.csv", "--save", "o.mkv", "--chart", "o.svg", "--crops", "c")
    assert said.code == 0 and "no face found" in said.err
    rows = list(csv.reader(Path("o.csv").read_text().splitlines()))
    assert rows[1:] == [["blank.mp4", str(at), f"{at / 10}", *[""] * 15] for at in range(3)]
    assert len(times_of(Path("o.mkv"))) == 3


@posix
def test_odd_names_work(fer, loaded):
    """The names have spaces, quotes, markup, other letters, a leading dash, a colon and a line break."""
    for name in ("a [bold] \"q\" 'r' ñ日.mp4", "-lead.mp4", "12:30.mp4", "new\nline.mp4", "[x]*?.mp4"):
        shutil.copy(SAMPLE, name)
        data, save = f"{name}.csv", f"{name}.out.mp4"
        said = fer("--end=0.05", f"--data={data}", f"--save={save}", "--", name)
        assert said.code == 0, said.err
        assert "Traceback" not in said.err and "note" not in said.err, said.err
        shown = " ".join(name.split())
        assert said.err.startswith(f"{shown}: 2 frames in ") and f"wrote {shown}.csv" in said.err
        assert [row["source"] for row in csv_rows(data)] == [name] * 4
        assert audio_s(Path(save)) > 0.04


@pytest.mark.parametrize(
    ("source", "kept_by"),
    [("one.jpg", "--save annotated.jpg"), ("in", "--save annotated/"), (SAMPLE, "--save annotated.mp4")],
)
def test_a_run_that_saves_nothing_says_how_to_keep_the_result(fer, loaded, hopper_bgr, source, kept_by):
    Path("in").mkdir()
    for path in ("one.jpg", "in/one.jpg"):
        cv2.imwrite(path, cv2.resize(hopper_bgr, (256, 300), interpolation=cv2.INTER_AREA))
    part = ("--end", "0.1") if source == SAMPLE else ()
    said = fer(source, *part)
    assert said.code == 0
    last_line = said.err.splitlines()[-1]
    assert last_line.startswith("fer-stream: nothing was saved;") and kept_by in last_line
    assert "nothing was saved" not in fer(source, *part, "--data", "-").err
    assert fer(source, *part, "--quiet").err == ""


def test_a_folder_of_pictures_is_annotated(fer, loaded, hopper_bgr):
    Path("in").mkdir()
    small = cv2.resize(hopper_bgr, (256, 300), interpolation=cv2.INTER_AREA)
    for name in ("b10.jpg", "b2.png"):
        cv2.imwrite(f"in/{name}", small)
    cv2.imwrite("in/b3.jpg", np.full((64, 64, 3), 90, np.uint8))
    Path("in/notes.txt").write_text("not a picture")
    said = fer("in", "--save", "out", "--chart", "charts", "--data", "o.jsonl", "--crops", "crops")
    assert said.code == 0 and "3 pictures" in said.err and "2 faces" in said.err
    lines = [json.loads(line) for line in Path("o.jsonl").read_text().splitlines()]
    natural = [str(Path("in", name)) for name in ("b2.png", "b3.jpg", "b10.jpg")]
    assert [(line["source"], line["frame"], line["face_id"]) for line in lines] == [
        (natural[0], 0, 1),
        (natural[1], 1, None),
        (natural[2], 2, 1),
    ]
    assert files_below(Path("out")) == {"b2.png", "b3.jpg", "b10.jpg"}
    assert files_below(Path("charts")) == {"b2.png.png", "b3.jpg.png", "b10.jpg.png"}
    assert files_below(Path("crops")) == {
        "1",
        str(Path("1", "000000.jpg")),
        str(Path("1", "000002.jpg")),
    }
    assert cv2.imread("out/b2.png").shape == (300, 256, 3)
    assert (cv2.imread("out/b2.png") != small).any()

    assert fer("in/b2.png", "--save", "one.jpg", "--chart", "one.pdf").code == 0
    assert cv2.imread("one.jpg").shape == (300, 256, 3)
    assert Path("one.pdf").read_bytes().startswith(b"%PDF")
    said = fer("in/b*.jpg", "--data", "-")
    assert [json.loads(line)["frame"] for line in said.out.splitlines()] == [0, 1]


def test_an_unreadable_picture_among_others_is_noted(fer, loaded):
    Path("in").mkdir()
    cv2.imwrite("in/a.jpg", np.full((64, 64, 3), 90, np.uint8))
    Path("in/b.jpg").write_text("only text")
    said = fer("in")
    assert said.code == 0
    assert "1 picture " in said.err and "note in" in said.err and "b.jpg" in said.err
