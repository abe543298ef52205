"""The effects of single options on a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.contexts import camera_info
from helpers.paths import SAMPLE
from helpers.videos import pictures_of, psnr_db, times_of

from fer_stream.command import cli, outputs
from fer_stream.errors import OutputError
from fer_stream.status import RunStatus


def test_labels_reach_the_analysis(fer):
    rows = {}
    for labels in ("ferplus", "fer2013"):
        said = fer(SAMPLE, "--end", "0.1", "--labels", labels, "--data", "-")
        assert said.code == 0
        rows[labels] = [json.loads(line) for line in said.out.splitlines()]
    assert [row["frame"] for row in rows["ferplus"]] == [row["frame"] for row in rows["fer2013"]]
    assert all(a["happy"] != b["happy"] for a, b in zip(rows["ferplus"], rows["fer2013"], strict=True))


@pytest.mark.parametrize(("threshold", "is_unsure"), [("0", False), ("1", True)])
def test_the_threshold_reaches_the_analysis(fer, threshold, is_unsure):
    said = fer(SAMPLE, "--end", "0.1", "--unsure-below", threshold)
    assert said.code == 0
    assert ("unsure 100 %" in said.err) == is_unsure == ("unsure" in said.err)


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


def test_quiet_prints_nothing(fer, loaded):
    said = fer(SAMPLE, "--end", "0.05", "--quiet", "--data", "o.csv")
    assert (said.code, said.out, said.err) == (0, "", "")


def test_only_overwrite_replaces_a_file(fer, loaded):
    Path("o.csv").write_text("old")
    assert fer(SAMPLE, "--end", "0.05", "--data", "o.csv").code == 4
    assert Path("o.csv").read_text() == "old"
    assert fer(SAMPLE, "--end", "0.05", "--data", "o.csv", "--overwrite").code == 0
    assert Path("o.csv").read_text().startswith("source,frame")


def test_version_and_help_are_printed(fer, capfd):
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
    options = cli.build_parser().parse_args(["--camera", "0", "--data", "t.csv", *quiet])
    assert outputs.open_window(options, camera_info(), RunStatus(), has_outputs=True) is None
    assert capfd.readouterr().err == (f"fer-stream: {says}\n" if says else "")
    with pytest.raises(OutputError, match=r"no display.*--data.*--no-show"):
        outputs.open_window(options, camera_info(), RunStatus(), has_outputs=False)
