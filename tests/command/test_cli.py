"""The command as users see it: its messages, its exit codes and its files."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers.checkpoints import save_small_checkpoint
from helpers.command import COLUMNS, files_below, posix, start
from helpers.paths import SAMPLE
from helpers.videos import opened, pictures_of, times_of

from fer_stream.command import cli, outputs
from fer_stream.errors import OutputError
from fer_stream.expressions import EXPRESSIONS, LABELS
from fer_stream.sources import SourceInfo
from fer_stream.status import RunStatus


def audio_s(path: Path) -> float:
    with opened(path) as container:
        return sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))


def psnr_db(first: np.ndarray, second: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(float(np.mean((first.astype(float) - second) ** 2)), 1e-9))


# Wrong input.

WRONG_OPTIONS = {
    "other labels": ([SAMPLE, "--labels", "raf-db"], "--labels"),
    "a threshold of 70": ([SAMPLE, "--unsure-below", "70"], "from 0 to 1"),
    "nothing at all": ([], "source or --camera"),
    "source and camera": ([SAMPLE, "--camera", "0"], "--camera"),
    "camera -1": (["--camera", "-1"], "--camera"),
    "unknown option": ([SAMPLE, "--nonsense"], "--nonsense"),
    "shortened option": ([SAMPLE, "--overw"], "--overw"),
    "mistyped option": ([SAMPLE, "--dta", "o.csv"], "did you mean --data?"),
    "two sources": ([SAMPLE, "more.mp4"], "fer-batch"),
    "empty source": ([""], "empty"),
    "batch 0": ([SAMPLE, "--batch", "0"], "--batch"),
    "batch beyond memory": ([SAMPLE, "--batch", "100000"], "256"),
    "min-face words": ([SAMPLE, "--min-face", "big"], "--min-face"),
    "scan-every 0": ([SAMPLE, "--scan-every", "0"], "--scan-every"),
    "scan-every often": ([SAMPLE, "--scan-every", "often"], "nor auto"),
    "smooth nan": ([SAMPLE, "--smooth", "nan"], "--smooth"),
    "smooth -1": ([SAMPLE, "--smooth=-1"], "--smooth"),
    "stills-every 0": ([SAMPLE, "--stills", "s", "--stills-every", "0"], "more than 0"),
    "stills-every alone": ([SAMPLE, "--stills-every", "1"], "--stills DIR"),
    "both kinds of stills": (
        [SAMPLE, "--stills", "s", "--stills-every", "1", "--stills-on", "change"],
        "not allowed with",
    ),
    "blur and scans": ([SAMPLE, "--blur", "--scan-every", "50", "--data", "-"], "--scan-every"),
    "cameras and a source": ([SAMPLE, "--list-cameras"], "--list-cameras"),
    "crops and blur": ([SAMPLE, "--crops", "c", "--blur"], "--blur"),
    "stills-on sometimes": ([SAMPLE, "--stills", "s", "--stills-on", "sometimes"], "sometimes"),
    "start words": ([SAMPLE, "--start", "soon"], "soon"),
    "start negative": ([SAMPLE, "--start=-1"], "-1"),
    "end before start": ([SAMPLE, "--start", "5", "--end", "0:03"], "after the start"),
    "device gpu": ([SAMPLE, "--device", "gpu"], "auto, cpu, cuda"),
    "device cpu:1": ([SAMPLE, "--device", "cpu:1"], "auto, cpu, cuda"),
    "device cuda:99": ([SAMPLE, "--device", "cuda:99"], "--device cpu"),
    "save as avi": ([SAMPLE, "--save", "o.avi"], ".mp4, .mkv, .webm"),
    "save without extension": ([SAMPLE, "--save", "o"], ".mp4, .mkv, .webm"),
    "save as picture": ([SAMPLE, "--save", "o.png"], ".mp4, .mkv, .webm"),
    "save empty": ([SAMPLE, "--save", ""], "--save"),
    "stills empty": ([SAMPLE, "--stills", ""], "--stills"),
    "data as xlsx": ([SAMPLE, "--data", "o.xlsx"], ".csv, .jsonl, .parquet"),
    "chart as gif": ([SAMPLE, "--chart", "o.gif"], ".png"),
    "two outputs at one path": ([SAMPLE, "--save", "o.mp4", "--profile", "./o.mp4"], "same path"),
    "folder at a file": ([SAMPLE, "--data", "o.csv", "--crops", "o.csv"], "same path"),
    "folder inside a file": ([SAMPLE, "--profile", "o", "--crops", "o/crops"], "place inside"),
    "picture with start": (["{picture}", "--start", "1"], "recording"),
    "picture with stills": (["{picture}", "--stills", "s"], "--save"),
    "picture saved as video": (["{picture}", "--save", "o.mp4"], ".jpg"),
    "folder saved as picture": (["{folder}", "--save", "o.jpg"], "folder"),
    "folder saved as video": (["{folder}", "--save", "o.mp4"], "folder"),
    "folder as one chart": (["{folder}", "--chart", "o.png"], "folder"),
}
WRONG_SOURCES = {
    "no such file": (["nope.mp4"], "nope.mp4"),
    "no such glob": (["no*.jpg"], "no image"),
    "folder without images": (["{empty}"], "no image"),
    "text named mp4": (["{text_mp4}"], "no video"),
    "text named jpg": (["{text_jpg}"], "image"),
    "empty file": (["{zero_mp4}"], "empty"),
    "name too long": ([f"{'x' * 300}.mp4"], "can't be read" if sys.platform != "win32" else "x"),
    "start past the end": ([SAMPLE, "--start", "99"], "start earlier"),
    "no frame in the part": ([SAMPLE, "--start", "1.01", "--end", "1.02"], "widen"),
    "camera 99": (["--camera", "99", "--no-show"], "camera 99"),
    "nobody at the address": (["rtsp://user:secret@127.0.0.1:1/x", "--no-show"], "127.0.0.1:1"),
}
WRONG_OUTPUTS = {
    "under a file": ([SAMPLE, "--save", "{text_mp4}/o.mp4"], "is a file"),
    "stills at a file": ([SAMPLE, "--stills", "{text_mp4}"], "is a file"),
    "a folder": ([SAMPLE, "--profile", "{empty}"], "is a folder"),
    "exists": ([SAMPLE, "--data", "{old_csv}"], "--overwrite"),
    "the input": (["{video}", "--save", "{video}", "--overwrite"], "input itself"),
    "the input by another path": (
        ["{video}", "--save", "{empty}/../video.mp4", "--overwrite"],
        "input itself",
    ),
    "the input as profile": (["{video}", "--profile", "{video}", "--overwrite"], "input itself"),
    "one picture of the folder": (
        ["{folder}", "--profile", "{folder}/b.jpg", "--overwrite"],
        "input itself",
    ),
    "the only picture of a glob": (
        ["{folder}/b*.jpg", "--save", "{folder}/b.jpg", "--overwrite"],
        "input itself",
    ),
    "the folder of pictures": (["{folder}", "--save", "{folder}", "--overwrite"], "input itself"),
    "the weights": (
        [SAMPLE, "--weights", "{text_pt}", "--profile", "{text_pt}", "--overwrite"],
        "input itself",
    ),
}
if sys.platform == "linux":
    WRONG_OUTPUTS["a folder of the kernel"] = ([SAMPLE, "--save", "/proc/x/o.mp4"], "choose another place")
    WRONG_SOURCES["name too long"] = ([f"{'x' * 300}.mp4"], "too long")
WRONG_WEIGHTS = {
    "missing": ([SAMPLE, "--weights", "no.pt"], "no.pt"),
    "text": ([SAMPLE, "--weights", "{text_pt}"], "not a PyTorch checkpoint"),
    "a folder": ([SAMPLE, "--weights", "{empty}"], "is a folder"),
    "no FER+ layer": ([SAMPLE, "--weights", "{old_pt}", "--labels", "ferplus"], "no FER+ layer"),
}
WRONG = [
    pytest.param(code, arguments, says, id=f"{code} {name}")
    for code, cases in ((2, WRONG_OPTIONS), (3, WRONG_SOURCES), (4, WRONG_OUTPUTS), (5, WRONG_WEIGHTS))
    for name, (arguments, says) in cases.items()
]


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> dict[str, Path]:
    """A folder with files that are not what they seem, and a few that are."""
    folder = tmp_path_factory.mktemp("material")
    paths = {
        name: folder / name.replace("_", ".")
        for name in ("text_mp4", "text_jpg", "text_pt", "zero_mp4", "old_csv")
    }
    for path in paths.values():
        path.write_text("only text\n")
    paths["zero_mp4"].write_bytes(b"")
    paths["old_pt"] = folder / "old.pt"
    save_small_checkpoint(paths["old_pt"])
    paths |= {"empty": folder / "empty", "folder": folder / "folder", "video": folder / "video.mp4"}
    paths["empty"].mkdir()
    paths["folder"].mkdir()
    for name in ("a.jpg", "b.jpg"):
        cv2.imwrite(str(paths["folder"] / name), np.full((48, 64, 3), 90, np.uint8))
    paths["picture"] = paths["folder"] / "a.jpg"
    shutil.copy(SAMPLE, paths["video"])
    return paths


@pytest.mark.parametrize(("code", "arguments", "says"), WRONG)
def test_wrong_input_is_one_line_before_any_network(fer, no_network, material, code, arguments, says):
    before = {path: path.read_bytes() for path in material["empty"].parent.rglob("*") if path.is_file()}
    outputs = [] if code == 2 else ["--crops", "new/crops"]  # that a later fault has to take away again
    said = fer(*(str(argument).format(**material) for argument in arguments), *outputs)
    assert said.code == code
    assert said.line.startswith("fer-stream: ") and says in said.line
    assert "secret" not in said.line
    assert said.out == ""
    assert files_below(Path.cwd()) == set(), "nothing is left behind"
    after = {path: path.read_bytes() for path in material["empty"].parent.rglob("*") if path.is_file()}
    assert after == before


def test_wrong_input_loads_neither_torch_nor_onnxruntime(material):
    code = (
        "import sys; from fer_stream.command.cli import main\n"
        "for arguments in eval(sys.argv[1]): main(arguments)\n"
        "print(sorted({'torch', 'onnxruntime', 'matplotlib', 'pyarrow', 'timm'} & set(sys.modules)))"
    )
    cases = [
        [str(SAMPLE), "--batch", "0"],
        [str(SAMPLE), "--start", "99"],
        [str(SAMPLE), "--save", str(SAMPLE), "--overwrite", "--chart", str(material["empty"] / "c.png")],
        [str(SAMPLE), "--weights", str(material["text_pt"])],
        [str(SAMPLE), "--weights", str(material["old_pt"]), "--labels", "ferplus"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, repr(cases)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
    assert len(done.stderr.splitlines()) == len(cases)


def test_labels_and_threshold_reach_the_analysis(fer, tmp_path):
    import json

    rows = {}
    for labels in ("ferplus", "fer2013"):
        said = fer(SAMPLE, "--end", "0.1", "--labels", labels, "--unsure-below", "0.5", "--data", "-")
        assert said.code == 0
        rows[labels] = [json.loads(line) for line in said.out.splitlines()]
    assert [row["frame"] for row in rows["ferplus"]] == [row["frame"] for row in rows["fer2013"]]
    assert all(a["happy"] != b["happy"] for a, b in zip(rows["ferplus"], rows["fer2013"], strict=True))


def test_weights_of_another_model_leave_old_outputs_alone(fer, tmp_path):
    import torch

    other = tmp_path / "other.pt"
    torch.save({"state_dict": {"weight": torch.zeros(3)}}, other)
    Path("o.csv").write_text("old")
    said = fer(SAMPLE, "--weights", other, "--data", "o.csv", "--save", "new/o.mp4", "--overwrite")
    assert said.code == 5 and str(other) in said.line
    assert Path("o.csv").read_text() == "old"
    assert files_below(Path.cwd()) == {"o.csv"}


@posix
def test_the_input_is_known_through_links(fer, no_network, material):
    Path("link.mp4").symlink_to(material["video"])
    assert fer("link.mp4", "--save", material["video"], "--overwrite").code == 4
    assert fer(material["video"], "--save", "link.mp4", "--overwrite").code == 4
    Path("real.csv").write_text("old")
    Path("also.csv").symlink_to("real.csv")
    assert fer(SAMPLE, "--data", "real.csv", "--profile", "also.csv", "--overwrite").code == 2
    assert material["video"].read_bytes() == SAMPLE.read_bytes()


@posix
@pytest.mark.parametrize("name", ["new\nline.mp4", "\x1b[31mred\x1b[0m.mp4", "[bold]b[/bold].mp4"])
def test_no_name_breaks_the_line(fer, name):
    said = fer(name)
    assert said.code == 3
    assert said.line.isprintable()
    assert "[bold]b[/bold].mp4" in said.line or "[bold]" not in name


def test_show_without_a_display_and_nothing_else_to_do_is_an_error(fer, no_network, monkeypatch):
    monkeypatch.setattr("fer_stream.sinks.why_no_window", lambda: "there is no display")
    said = fer(SAMPLE, "--show")
    assert said.code == 4 and "no display" in said.line and "--save" in said.line


def test_show_without_a_display_is_one_line_and_the_rest_is_done(fer, loaded, monkeypatch):
    monkeypatch.setattr("fer_stream.sinks.why_no_window", lambda: "there is no display")
    said = fer(SAMPLE, "--end", "0.1", "--show", "--data", "t.csv", "--quiet")
    assert said.code == 0
    assert said.line == "fer-stream: there is no display; going on without it"
    assert Path("t.csv").exists()


@pytest.mark.parametrize(
    ("quiet", "says"), [([], "there is no display; going on without it"), (["--quiet"], "")]
)
def test_a_live_source_without_a_display_says_so_and_goes_on(monkeypatch, capfd, quiet, says):
    monkeypatch.setattr("fer_stream.sinks.why_no_window", lambda: "there is no display")
    info = SourceInfo("camera 0", "camera", None, (64, 48), None, None, None, None)
    options = cli.build_parser().parse_args(["--camera", "0", "--data", "t.csv", *quiet])
    assert outputs.open_window(options, info, RunStatus(), has_outputs=True) is None
    assert capfd.readouterr().err == (f"fer-stream: {says}\n" if says else "")
    with pytest.raises(OutputError, match=r"no display.*--data.*--no-show"):
        outputs.open_window(options, info, RunStatus(), has_outputs=False)


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_blur_searches_every_frame(fer, monkeypatch, device):
    asked: list[object] = []

    def make(self: object, *_: object, scan_every: object = "auto", **__: object) -> None:
        asked.append(scan_every)
        raise OutputError("enough")

    monkeypatch.setattr("fer_stream.inference.devices.pick_device", lambda name: device)
    monkeypatch.setattr("fer_stream.analyzer.Analyzer.__init__", make)
    assert fer(SAMPLE, "--blur", "--save", "o.mp4").code == 4
    assert asked == [1]


def test_version_and_help(fer, capfd):
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as ended:
            fer(option)
        assert ended.value.code == 0
    out = capfd.readouterr().out
    assert "--stills-every" in out
    done = subprocess.run(
        [sys.executable, "-m", "fer_stream", "--version"], check=False, capture_output=True, text=True
    )
    assert done.stdout.startswith("fer-stream ") and done.returncode == 0


# A run on the sample.


@pytest.fixture(scope="module")
def made(analyzer, tmp_path_factory) -> Path:
    """The folder with all outputs of a run over 0.5 s of the sample, and what it printed."""
    folder = tmp_path_factory.mktemp("made") / "out put"
    arguments = [
        *(SAMPLE, "--start", "1.0", "--end", "0:01.5", "--save", folder / "o.mp4"),
        *("--data", folder / "o.csv", "--chart", folder / "o.jpg", "--profile", folder / "p.json"),
        *("--stills", folder / "stills", "--stills-every", "0.2", "--crops", folder / "crops"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "fer_stream", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (folder / "said.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    return folder


def part_of_sample() -> list[int]:
    return [index for index, time_s in enumerate(times_of(SAMPLE)) if 1.0 <= time_s < 1.5]


def test_the_saved_video_is_the_part_frame_by_frame(made):
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
    with (made / "o.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
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


def test_pictures_of_the_run(made):
    stills = sorted((made / "stills").iterdir())
    assert len(stills) == 3
    assert cv2.imread(str(stills[0])).shape == (720, 1280, 3)
    assert cv2.imread(str(made / "o.jpg")).shape[1] > 1000


def test_the_profile(made):
    profile = json.loads((made / "p.json").read_text())
    assert set(profile) == {
        *("frames", "wall_s", "fps", "dropped", "faces", "stages_ms", "latency_ms"),
        *("peak_rss_mb", "first_frame_s"),
    }
    assert profile["frames"] == len(part_of_sample())
    assert profile["faces"] == 2 and profile["dropped"] == 0
    assert profile["fps"] == pytest.approx(profile["frames"] / profile["wall_s"], rel=0.02)
    for stage in ("decode", "detect", "classify", "draw", "video", "table"):
        assert set(profile["stages_ms"][stage]) == {"mean", "p50", "p95"}
        assert 0 < profile["stages_ms"][stage]["p50"] <= profile["stages_ms"][stage]["p95"]
    assert set(profile["latency_ms"]) == {"p50", "p95"}
    assert 50 < profile["peak_rss_mb"] < 4000 and 0 < profile["first_frame_s"] < 120


def test_the_summary(made):
    lines = (made / "said.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith(f"{SAMPLE}: 15 frames in ")
    assert lines[1].startswith("2 faces; percentages are shares of the time")
    people = [line for line in lines[2:] if line.startswith("  face ")]
    assert [line.split()[1] for line in people] == ["1", "2"]
    for line in people:
        seen_s, _, named = line.split("seen")[1].partition(" s ")
        assert float(seen_s) == pytest.approx(len(part_of_sample()) / 30, abs=0.06)
        shares = [part.split() for part in named.split(",")]
        assert all(label in LABELS for label, *_ in shares)
        assert sum(int(share) for _, share, _ in shares) <= 101
    wrote = [line.removeprefix("wrote ") for line in lines if line.startswith("wrote ")]
    names = ("o.mp4", "stills", "crops", "o.csv", "o.jpg", "p.json")
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


def test_tables_of_all_kinds_agree(fer, loaded):
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


def test_quiet_says_nothing(fer, loaded):
    said = fer(SAMPLE, "--end", "0.05", "--quiet", "--data", "o.csv")
    assert (said.code, said.out, said.err) == (0, "", "")


def test_blur_leaves_no_face_in_any_picture_and_every_number_as_it_was(fer, loaded, detector):
    common = (SAMPLE, "--start", "1", "--end", "1.6", "--quiet")
    # With --blur every frame is searched.
    assert fer(*common, "--scan-every", "1", "--save", "sharp.mp4", "--data", "sharp.csv").code == 0
    outputs = ("--save", "blurred.mp4", "--data", "blurred.csv", "--stills", "stills")
    assert fer(*common, "--blur", *outputs, "--stills-every", "0.3").code == 0
    assert Path("blurred.csv").read_bytes() == Path("sharp.csv").read_bytes()

    sharp, blurred = pictures_of(Path("sharp.mp4")), pictures_of(Path("blurred.mp4"))
    assert len(sharp) == len(blurred) and times_of(Path("sharp.mp4")) == times_of(Path("blurred.mp4"))
    stills = [cv2.imread(str(path)) for path in Path("stills").iterdir()]
    assert len(stills) >= 2
    boxes = detector.scan(sharp[0]).boxes_xyxy
    assert len(boxes) == 2
    for picture in (*blurred[::5], *stills):
        assert len(detector.scan(picture)) == 0
    away = np.ones(sharp[0].shape[:2], bool)
    for left, top, right, bottom in boxes.astype(int):
        side = max(right - left, bottom - top)
        away[max(top - side, 0) : bottom + side, max(left - side, 0) : right + side] = False
    assert away.mean() > 0.2
    assert psnr_db(sharp[0][away], blurred[0][away]) > 38, "the background is that of the other run"


def test_overwrite_replaces_and_only_then(fer, loaded):
    Path("o.csv").write_text("old")
    assert fer(SAMPLE, "--end", "0.05", "--data", "o.csv").code == 4
    assert Path("o.csv").read_text() == "old"
    assert fer(SAMPLE, "--end", "0.05", "--data", "o.csv", "--overwrite").code == 0
    assert Path("o.csv").read_text().startswith("source,frame")


@posix
def test_odd_names_work(fer, loaded):
    """Spaces, quotes, markup, other letters, a leading dash, a colon, a line break."""
    for name in ("a [bold] \"q\" 'r' ñ日.mp4", "-lead.mp4", "12:30.mp4", "new\nline.mp4", "[x]*?.mp4"):
        shutil.copy(SAMPLE, name)
        data, save = f"{name}.csv", f"{name}.out.mp4"
        said = fer("--end=0.05", f"--data={data}", f"--save={save}", "--", name)
        assert said.code == 0, said.err
        assert "Traceback" not in said.err and "note" not in said.err, said.err
        shown = " ".join(name.split())
        assert said.err.startswith(f"{shown}: 2 frames in ") and f"wrote {shown}.csv" in said.err
        with Path(data).open(encoding="utf-8", newline="") as file:
            assert [row[0] for row in csv.reader(file)][1:] == [name] * 4
        assert audio_s(Path(save)) > 0.04


def test_pictures(fer, loaded, hopper_bgr):
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


# Ends that come early, in processes of their own.


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_finishes_every_file(tmp_path, made, number):
    arguments = (SAMPLE, "--save", tmp_path / "o.mp4", "--data", "-", "--profile", tmp_path / "p.json")
    process = start(arguments)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(5)]
    asked_s = time.monotonic()
    process.send_signal(number)
    process.send_signal(number)  # as where a wrapper passes it on as well
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert time.monotonic() - asked_s < 8, "far above the 2 s of an idle machine"
    rows = [json.loads(line) for line in [*lines, *out.splitlines()]]
    frames = [row["frame"] for row in rows]
    assert frames == sorted(frames) and len({(row["frame"], row["face_id"]) for row in rows}) == len(rows)
    assert times_of(tmp_path / "o.mp4") == times_of(SAMPLE)[: frames[-1] + 1]
    assert frames[-1] < 239 and "interrupted after" in err and "Traceback" not in err
    assert json.loads((tmp_path / "p.json").read_text())["frames"] == frames[-1] + 1


def test_variables_of_opencv_and_matplotlib_do_not_matter(tmp_path, made):
    names = ("IO_MAX_IMAGE_PIXELS", "IO_MAX_IMAGE_WIDTH", "DUMP_ERRORS", "TRACE", "ENABLE_MEMALIGN")
    variables = dict.fromkeys((f"OPENCV_{name}" for name in names), "x")
    variables |= {"OPENCV_FOR_THREADS_NUM": "x", "SOURCE_DATE_EPOCH": "junk"}
    chart = tmp_path / "o.pdf"
    process = start(
        (SAMPLE, "--end", "0.1", "--data", "-", "--chart", chart), env={**os.environ, **variables}
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and out and "Traceback" not in err
    assert chart.stat().st_size > 0


@posix
def test_a_folder_that_is_gone_is_one_line(tmp_path, made):
    process = start((SAMPLE, "--data", "o.csv"), cwd=tmp_path, preexec_fn=tmp_path.rmdir)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4 and err.count("\n") == 1 and "No such file" in err


def test_matplotlib_settings_that_lie_about_do_not_matter(tmp_path, made):
    (tmp_path / "matplotlibrc").write_bytes(b"text.usetex: True\n")
    process = start(
        (SAMPLE, "--end", "0.1", "--chart", "o.png"),
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "nonsense"},
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in err
    assert (tmp_path / "o.png").stat().st_size > 0
    (tmp_path / "matplotlibrc").write_bytes(b"\xff")
    process = start((SAMPLE, "--end", "0.1", "--chart", "p.png", "--data", "p.csv"), cwd=tmp_path)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4 and "matplotlibrc" in err and "Traceback" not in err
    assert (tmp_path / "p.csv").stat().st_size > 0


@posix
def test_a_reader_that_goes_away_ends_it_quietly(tmp_path, made):
    process = start((SAMPLE, "--data", "-", "--save", tmp_path / "o.mp4"))
    assert process.stdout is not None and process.stderr is not None
    json.loads(process.stdout.readline())
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=20) == 4
    assert err == ""
    assert 0 < len(times_of(tmp_path / "o.mp4")) < 239


@posix
def test_an_output_that_fails_midway_leaves_the_others_finished(tmp_path, made):
    def limit() -> None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    # Its video soon grows beyond what a file may, the table does not.
    arguments = (SAMPLE, "--save", tmp_path / "o.mp4", "--data", tmp_path / "o.csv")
    process = start(arguments, preexec_fn=limit)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert len(err.splitlines()) == 1 and str(tmp_path / "o.mp4") in err and "File too large" in err
    rows = list(csv.reader((tmp_path / "o.csv").read_text().splitlines()))
    assert len(rows) > 4 and all(len(row) == len(COLUMNS) for row in rows)
