"""The Python API, as the README shows it."""

from __future__ import annotations

import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest
from helpers.contexts import make_info
from helpers.paths import SAMPLE

import fer_stream
from fer_stream import EXPRESSIONS, Overlay, SourceError, UsageError, WeightsError, open_source
from fer_stream.command.options import CommandParser, add_analysis_options
from fer_stream.pipeline import run
from fer_stream.sinks import TableSink, VideoSink


def test_a_stream_yields_analyzed_frames(analyzer):
    with open_source(SAMPLE, start_s=1.0, end_s=1.1) as source:
        stream = analyzer.stream(source)
        frames = list(stream)
    assert [analyzed.frame.index for analyzed in frames] == [30, 31, 32]
    for analyzed in frames:
        assert [face.id for face in analyzed.faces] == [1, 2]
        for face in analyzed.faces:
            assert face.expression in EXPRESSIONS and 0 < face.confidence <= 1
            assert face.probabilities.sum() == pytest.approx(1, abs=1e-4)
            left, top, right, bottom = face.box_xyxy
            assert 0 <= left < right <= 1280 and 0 <= top < bottom <= 720


def test_a_stream_opens_and_closes_what_it_is_told(analyzer):
    stream = analyzer.stream(str(SAMPLE))
    assert next(stream).frame.time_s == 0
    stream.close()
    with pytest.raises(SourceError, match=r"nope\.mp4"):
        next(analyzer.stream("nope.mp4"))


def test_a_picture_gives_its_faces(analyzer, hopper_bgr):
    small = cv2.resize(hopper_bgr, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    (face,) = analyzer.analyze(small)
    left, top, right, bottom = face.box_xyxy
    assert left < 128 < right and top < 120 < bottom  # his nose is near (133, 118)
    assert analyzer.analyze(np.zeros((64, 64, 3), np.uint8)) == ()
    with pytest.raises(ValueError, match="uint8"):
        analyzer.analyze(small[:, :, 0])


def test_the_parts_together_do_what_the_command_does(analyzer, tmp_path):
    with (
        open_source(SAMPLE, end_s=0.1) as source,
        VideoSink(tmp_path / "o.mp4", source.info) as video,
        TableSink(tmp_path / "o.csv", source.info) as table,
    ):
        summary = run(source, analyzer, Overlay(), [video, table])
    assert (summary.frames, summary.faces) == (3, 2)
    assert (tmp_path / "o.csv").read_text().count("\n") == 1 + 6
    assert cv2.VideoCapture(str(tmp_path / "o.mp4")).read()[0]


def test_errors_are_typed_and_name_the_remedy(tmp_path):
    with pytest.raises(WeightsError, match="no weights file"):
        fer_stream.Analyzer(weights=tmp_path / "no.pt")
    for device in ("gpu", 0, None):
        with pytest.raises(UsageError, match="auto, cpu, cuda"):
            fer_stream.Analyzer(device=device)
    assert {error.exit_code for error in fer_stream.FerStreamError.__subclasses__()} == {1, 2, 3, 4, 5}


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("setting", "value", "accepted"),
    [
        *(("min_face", value, "a whole number from 12 to 1000000") for value in (0, 11, 12.5, NAN, "40")),
        *(("batch", value, "a whole number from 1 to 256") for value in (0, -1, 257, None)),
        *(("scan_every", value, "a whole number from 1 to 1000000, nor auto") for value in (0, "often", 2.5)),
        *(("smooth_s", value, "a number of seconds, 0 or more") for value in (-1, NAN, INFINITE, "0.3")),
        *(("threads", value, "a whole number from 0 to 1000000") for value in (-1, 1.5)),
        *(("unsure_below", value, "a probability from 0 to 1") for value in (-0.1, 1.1, NAN)),
    ],
)
def test_a_setting_out_of_its_range_is_one_line(setting, value, accepted):
    with pytest.raises(UsageError) as caught:
        fer_stream.Analyzer("cpu", **{setting: value})
    assert str(caught.value) == f"{setting} is {value!r}, which is not {accepted}"


@pytest.mark.parametrize(
    ("option", "setting", "value"),
    [
        *(("min-face", "min_face", value) for value in (11, 12, 1_000_000, 1_000_001)),
        *(("batch", "batch", value) for value in (0, 1, 256, 257)),
        *(("scan-every", "scan_every", value) for value in (0, 1, 1_000_000, 1_000_001)),
        *(("smooth", "smooth_s", value) for value in (-0.001, 0, 1e9)),
        *(("unsure-below", "unsure_below", value) for value in (-0.001, 0, 1, 1.001)),
    ],
)
def test_an_option_accepts_what_the_analyzer_accepts(option, setting, value):
    parser = CommandParser(prog="program")
    add_analysis_options(parser)

    def refuses(call):
        try:
            call()
        except UsageError:
            return True
        return False

    by_option = refuses(lambda: parser.parse_args([f"--{option}={value}"]))
    assert refuses(lambda: fer_stream.Analyzer("cpu", **{setting: value})) == by_option


def test_every_public_name_exists_and_the_import_is_light():
    assert {"Analyzer", "Overlay", "open_source", "run", "Frame", "SourceError"} <= set(fer_stream.__all__)
    assert all(hasattr(fer_stream, name) for name in fer_stream.__all__)
    code = (
        "import sys, fer_stream; "
        "print({'torch', 'onnxruntime', 'matplotlib', 'pyarrow', 'av'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_command_starts_counting_before_the_heavy_imports() -> None:
    # `first_frame_s` is what a user waits for, and wrong options answer before OpenCV has loaded.
    heavy = "('cv2', 'numpy', 'av', 'rich')"
    code = f"import sys, fer_stream.command.cli; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_kind_of_source_that_does_not_exist_is_refused(analyzer) -> None:
    with pytest.raises(ValueError, match="'recording' is not a valid SourceKind"):
        next(analyzer.analyze_frames([], "recording"))
    with pytest.raises(ValueError, match="'movie' is not a valid SourceKind"):
        make_info(kind="movie")
    assert make_info(kind="camera").is_live


@pytest.mark.parametrize("error", [fer_stream.OutOfMemoryError("use less"), UsageError("wrong")])
def test_an_error_from_another_process_keeps_its_message(error: Exception) -> None:
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_picture_that_could_not_be_read_is_a_typed_error(analyzer) -> None:
    with pytest.raises(fer_stream.SourceError, match="could not be read"):
        analyzer.analyze(None)
