"""Wrong input is one line on standard error and an exit code, before any network loads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.command import files_below, posix
from helpers.paths import SAMPLE

WRONG_OPTIONS = {
    "other labels": ([SAMPLE, "--labels", "raf-db"], "--labels"),
    "a threshold of 70": ([SAMPLE, "--unsure-below", "70"], "from 0 to 1"),
    "a threshold in full-width digits": ([SAMPLE, "--unsure-below", "０.５"], "from 0 to 1"),
    "a batch in full-width digits": ([SAMPLE, "--batch", "４"], "whole number"),
    "nothing at all": ([], "source or --camera"),
    "source and camera": ([SAMPLE, "--camera", "0"], "--camera"),
    "camera -1": (["--camera", "-1"], "--camera"),
    "unknown option": ([SAMPLE, "--nonsense"], "--nonsense"),
    "shortened option": ([SAMPLE, "--overw"], "--overw"),
    "mistyped option": ([SAMPLE, "--dta", "o.csv"], "o.csv; did you mean --data? See fer-stream --help"),
    "option like no other": ([SAMPLE, "--json", "o.json"], "--json o.json; see fer-stream --help"),
    "two sources": ([SAMPLE, "more.mp4"], "fer-batch"),
    "empty source": ([""], "empty"),
    "a very long argument": ([SAMPLE, f"-{'a' * 300}"], "see fer-stream --help"),
    "a profile on standard output": ([SAMPLE, "--profile", "-"], "give the path of a file"),
    "batch 0": ([SAMPLE, "--batch", "0"], "--batch"),
    "batch beyond memory": ([SAMPLE, "--batch", "100000"], "256"),
    "min-face words": ([SAMPLE, "--min-face", "big"], "--min-face"),
    "scan-every 0": ([SAMPLE, "--scan-every", "0"], "--scan-every"),
    "scan-every often": ([SAMPLE, "--scan-every", "often"], "nor auto"),
    "smooth nan": ([SAMPLE, "--smooth", "nan"], "--smooth"),
    "smooth -1": ([SAMPLE, "--smooth=-1"], "--smooth"),
    "stills-every 0": ([SAMPLE, "--stills", "s", "--stills-every", "0"], "0.001 or more"),
    "stills-every of almost 0": ([SAMPLE, "--stills", "s", "--stills-every", "1e-320"], "0.001"),
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
    "save as avi": ([SAMPLE, "--save", "o.avi"], ".mp4, .mkv or .webm"),
    "save without extension": ([SAMPLE, "--save", "o"], ".mp4, .mkv or .webm"),
    "save as picture": ([SAMPLE, "--save", "o.png"], ".mp4, .mkv or .webm"),
    "save empty": ([SAMPLE, "--save", ""], "--save"),
    "stills empty": ([SAMPLE, "--stills", ""], "--stills"),
    "data as xlsx": ([SAMPLE, "--data", "o.xlsx"], ".csv, .jsonl or .parquet"),
    "chart as gif": ([SAMPLE, "--chart", "o.gif"], ".png"),
    "two outputs at one path": ([SAMPLE, "--save", "o.mp4", "--profile", "./o.mp4"], "same path"),
    "two tables": ([SAMPLE, "--data", "o.csv", "--data", "o.jsonl"], "--data can be given only once"),
    "one output twice": ([SAMPLE, "--stills", "s", "--stills", "s"], "--stills can be given only once"),
    "two cameras": (["--camera", "0", "--camera", "1"], "--camera can be given only once"),
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
    "text named mp4": (["{text_mp4}"], "not a video"),
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


@pytest.mark.parametrize(("code", "arguments", "says"), WRONG)
def test_wrong_input_is_one_line_before_any_network(fer, no_network, material, code, arguments, says):
    before = {path: path.read_bytes() for path in material["empty"].parent.rglob("*") if path.is_file()}
    outputs = [] if code == 2 else ["--crops", "new/crops"]  # that a later fault must remove again
    said = fer(*(str(argument).format(**material) for argument in arguments), *outputs)
    assert said.code == code
    assert said.line.startswith("fer-stream: ") and says in said.line
    assert not said.line.startswith("fer-stream: fer-stream")
    assert "secret" not in said.line
    assert said.out == ""
    assert files_below(Path.cwd()) == set(), "nothing is left behind"
    after = {path: path.read_bytes() for path in material["empty"].parent.rglob("*") if path.is_file()}
    assert after == before


def test_a_file_whose_name_begins_with_a_dash_is_told_from_an_option(fer):
    shutil.copy(SAMPLE, "-take.mp4")
    assert "for the file -take.mp4, write ./-take.mp4" in fer("-take.mp4").line
    assert fer("./-take.mp4", "--end", "0.1", "--data", "table.csv").code == 0


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
def test_the_input_is_recognized_through_links(fer, no_network, material):
    Path("link.mp4").symlink_to(material["video"])
    assert fer("link.mp4", "--save", material["video"], "--overwrite").code == 4
    assert fer(material["video"], "--save", "link.mp4", "--overwrite").code == 4
    Path("real.csv").write_text("old")
    Path("also.csv").symlink_to("real.csv")
    assert fer(SAMPLE, "--data", "real.csv", "--profile", "also.csv", "--overwrite").code == 2
    assert material["video"].read_bytes() == SAMPLE.read_bytes()


@pytest.mark.parametrize(
    ("pictures", "pattern", "option", "folder"),
    [
        (["d/a/x.jpg", "d/b/x.jpg"], "d/*/x.jpg", "--save", "d/b"),
        (["d/a.jpg", "d/a.jpg.png"], "d/*", "--chart", "d"),
        (["d/1/000000.jpg", "d/2/000001.jpg"], "d/*/*.jpg", "--crops", "d"),
    ],
)
def test_no_picture_of_a_pattern_is_overwritten(fer, no_network, pictures, pattern, option, folder):
    for number, path in enumerate(map(Path, pictures)):
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((8, 8, 3), number, np.uint8))
    files, before = files_below(Path.cwd()), [Path(path).read_bytes() for path in pictures]
    said = fer(pattern, option, folder, "--overwrite")
    assert said.code == 4 and "is an input itself; choose another folder" in said.line
    assert files_below(Path.cwd()) == files and [Path(path).read_bytes() for path in pictures] == before


@posix
@pytest.mark.parametrize(("link", "target"), [("crops/1/000000.jpg", "in/000000.jpg"), ("crops/1", "in")])
def test_no_picture_is_overwritten_through_a_link_among_the_crops(fer, no_network, link, target):
    Path("in").mkdir()
    cv2.imwrite("in/000000.jpg", np.zeros((8, 8, 3), np.uint8))
    Path(link).parent.mkdir(parents=True)
    Path(link).symlink_to(Path(target).absolute())
    before = Path("in/000000.jpg").read_bytes()
    said = fer("in", "--crops", "crops", "--overwrite")
    assert said.code == 4 and "is an input itself; choose another folder" in said.line
    assert Path("in/000000.jpg").read_bytes() == before


@posix
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("new\nline.mp4", "new line.mp4"),
        ("\x1b[31mred\x1b[0m.mp4", "\ufffd[31mred\ufffd[0m.mp4"),
        ("[bold]b[/bold].mp4", "[bold]b[/bold].mp4"),
    ],
)
def test_no_name_breaks_the_line(fer, name, shown):
    said = fer(name)
    assert said.code == 3
    assert said.line.isprintable()
    assert shown in said.line


@posix
@pytest.mark.parametrize("option", ["--data", "--save", "--profile", "--chart"])
def test_a_named_pipe_as_an_output_is_refused_at_once(fer, no_network, tmp_path, option):
    """Writing into it would wait until somebody reads."""
    pipe = (
        tmp_path / {"--data": "o.csv", "--save": "o.mp4", "--profile": "o.json", "--chart": "o.png"}[option]
    )
    os.mkfifo(pipe)
    said = fer(SAMPLE, option, pipe, "--overwrite")
    assert said.code == 4 and "o." in said.line and "a pipe, not a regular file" in said.line


@posix
def test_standard_output_by_its_name_in_the_file_system_works():
    arguments = [SAMPLE, "--end", "0.1", "--quiet", "--overwrite", "--profile", "/dev/stdout"]
    done = subprocess.run(
        [sys.executable, "-m", "fer_stream", *map(str, arguments)],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] == 3


@posix
@pytest.mark.parametrize("path", ["loop.csv", "loop.csv/o.csv"])
def test_a_link_to_itself_is_no_output(fer, no_network, path):
    Path("loop.csv").symlink_to("loop.csv")
    said = fer(SAMPLE, "--data", path, "--overwrite")
    assert said.code == 4 and "loop.csv: it is a link that leads nowhere" in said.line
