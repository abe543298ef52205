"""Cut recordings into parts, and join the parts into the table of a single pass."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
from helpers.archives import shrunk
from helpers.paths import SAMPLE

pytest.importorskip("ray", reason="needs the extra batch: pip install '.[batch]'")
pytest.importorskip("fsspec")

import pyarrow as pa
import pyarrow.parquet as pq

from fer_stream.batch import work
from fer_stream.batch.inputs import find_recordings
from fer_stream.batch.output_folder import Output
from fer_stream.batch.parts import MOST_PARTS, WHOLE, Header, Part, PartResult, cut, join, read_header
from fer_stream.batch.settings import TRACKER_WARM_UP_S
from fer_stream.errors import SourceError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.sinks.table import table_schema


def test_only_recordings_that_can_be_entered_anywhere_are_cut():
    long = Header(first_s=0.5, duration_s=100, can_be_cut=True)
    parts = cut(long, 30, 6)
    assert [round(part.start_s, 3) for part in parts] == [0, 33.833, 67.167]
    assert [part.end_s for part in parts] == [parts[1].start_s, parts[2].start_s, None]
    assert [round(part.start_s - part.from_s, 3) for part in parts] == [0, 6, 6]
    assert cut(Header(0, 100, can_be_cut=False), 30, 6) == [WHOLE]
    assert cut(Header(0, 59, can_be_cut=True), 30, 6) == [WHOLE]
    assert len(cut(long, 30, 50)) == 2  # a part is no shorter than its warm-up


def test_a_file_is_cut_into_no_more_parts_than_it_can_hold():
    claims_ages = Header(0, 3e11, can_be_cut=True, size_bytes=40_960)
    assert len(cut(claims_ages, 600, 12)) == 10
    assert len(cut(replace(claims_ages, size_bytes=10**9), 600, 12)) == MOST_PARTS
    assert cut(replace(claims_ages, size_bytes=100), 600, 12) == [WHOLE]


def test_a_slow_recording_warms_up_for_longer():
    # At one frame per second, 12 s are fewer frames than the tracker needs to forget where it started.
    slow, fast = (cut(Header(0, 300, can_be_cut=True, frame_rate=rate), 100, 12) for rate in (1, 25))
    assert [round(part.start_s - part.from_s) for part in slow] == [0, 60, 60]
    assert [round(part.start_s - part.from_s) for part in fast] == [0, 12, 12]


def test_a_file_that_names_other_files_is_not_followed(clip, tmp_path):
    script = tmp_path / "list.mp4"
    shutil.copy(clip, tmp_path / "hopper.mp4")
    script.write_text("ffconcat version 1.0\nfile hopper.mp4\n")
    assert read_header(clip).duration_s > 0 and read_header(script) == Header()
    with clip.open("rb") as video:
        assert read_header(video).duration_s > 0
    with script.open("rb") as named:
        assert read_header(named) == Header()


def rows(faces: dict[int, dict[int, float]], first_frame: int = 0) -> pa.Table:
    """Return a table at 10 frames per second, with a face of 10 px at x for each frame and id."""
    lines = []
    for index, (frame, there) in enumerate(faces.items()):
        start = {"source": "a", "frame": first_frame + index, "time_s": frame / 10}
        for face_id, x in there.items():
            place = {"face_id": face_id, "x1": x, "y1": 0.0, "x2": x + 10, "y2": 10.0}
            lines.append(start | place | {"expression": "sad"})
        if not there:
            lines.append(start)
    return pa.Table.from_pylist(lines, table_schema())


def test_joined_ids_continue_in_order_of_appearance():
    first = rows({0: {1: 0.0}, 1: {1: 0.0, 2: 50.0}, 2: {1: 1.0, 2: 50.0}})
    # The later part numbers the right face first, then the left one, then two new ones.
    second = rows({1: {1: 50.0}, 2: {1: 51.0, 2: 1.0}, 3: {1: 52.0, 2: 2.0}, 4: {}, 5: {3: 80, 4: 99}}, 1)
    parts = [Part(0, 0, 0.25), Part(1, 0.25, None, 0.05)]
    tables = dict(zip(parts, (first, second), strict=True))
    joined = pa.concat_tables(join(parts, tables.__getitem__, "a"))
    seen = list(zip(*(joined[name].to_pylist() for name in ("frame", "face_id", "x1")), strict=True))
    assert seen[5:] == [(3, 1, 2.0), (3, 2, 52.0), (4, None, None), (5, 3, 80.0), (5, 4, 99.0)]


def test_frame_numbers_continue_where_damage_hid_frames_from_a_part():
    first, second = rows({0: {}, 1: {}, 3: {}}), rows({1: {}, 3: {}, 4: {}}, first_frame=1)
    shifted = rows({1: {}, 3: {}, 4: {}}, first_frame=7)
    parts = [Part(0, 0, 0.35), Part(1, 0.35, None, 0.05)]
    for later in (second, shifted):
        tables = dict(zip(parts, (first, later), strict=True))
        joined = pa.concat_tables(join(parts, tables.__getitem__, "a"))
        assert joined["frame"].to_pylist() == [0, 1, 2, 3]
    apart = dict(zip(parts, (first, rows({2: {}, 9: {}})), strict=True))
    with pytest.raises(SourceError, match="do not overlap"):
        list(join(parts, apart.__getitem__, "a"))


def test_a_gap_across_a_cut_gives_the_table_of_one_pass():
    parts = [Part(0, 0, 0.35), Part(1, 0.35, None, 0.25)]
    tables = dict(zip(parts, (rows({0: {1: 0.0}, 1: {1: 0.0}}), rows({9: {1: 0.0}}, 2)), strict=True))
    joined = pa.concat_tables(join(parts, tables.__getitem__, "a"))
    assert joined["frame"].to_pylist() == [0, 1, 2] and joined["face_id"].to_pylist() == [1, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least", "most"), [("portrait", 1, 1), ("street", 4, 11), ("sample", 2, 2)])
def test_a_recording_in_parts_gives_the_table_of_one_pass(request, name, least, most, settings, tmp_path):
    videos = SAMPLE.parent if name == "sample" else request.getfixturevalue("shared_data") / "videos"
    video = SAMPLE if name == "sample" else next(videos.glob(f"{name}-*.mp4"))
    if name == "sample":  # the cut comes after one of the two has returned
        cut_s, warm_up_s = 5.5, 4.0
    elif name == "portrait":
        cut_s = 15.0
        warm_up_s = TRACKER_WARM_UP_S
    else:  # a short part at a smaller size, to keep the test fast
        settings, cut_s, warm_up_s = replace(settings, min_face=18), 2.1, 2.0
        video = shrunk(video, tmp_path / "street.mp4", (480, 270))
    (recording,) = find_recordings([str(video)])
    one, many = Output(str(tmp_path / "one")), Output(str(tmp_path / "many"))
    record = work.analyze(settings, None, recording, one)
    assert work.read_header(settings, recording).can_be_cut
    parts = [Part(0, 0, cut_s), Part(1, cut_s, None, cut_s - warm_up_s)]
    results = [work.analyze_part(settings, None, recording, part, many) for part in parts]
    joined = work.join_parts(settings, recording, parts, results, many)
    assert (joined.frames, joined.faces, joined.hash) == (record.frames, record.faces, record.hash)
    assert joined.label_s == pytest.approx(record.label_s, abs=1e-5)
    assert least <= record.faces <= most

    whole, pieced = (pq.read_table(tmp_path / folder / record.table) for folder in ("one", "many"))
    for column in ("source", "frame", "time_s", "face_id"):
        assert whole[column].equals(pieced[column]), column
    for column in ("x1", "y1", "x2", "y2"):
        np.testing.assert_allclose(whole[column].to_numpy(), pieced[column].to_numpy(), atol=0.02)
    for column in EXPRESSIONS:
        np.testing.assert_allclose(whole[column].to_numpy(), pieced[column].to_numpy(), atol=1e-4)


def test_parts_of_an_earlier_run_are_not_analyzed_again(settings, clip, tmp_path, monkeypatch):
    (recording,) = find_recordings([str(clip)])
    output = Output(str(tmp_path))
    result = work.analyze_part(settings, None, recording, WHOLE, output)
    monkeypatch.setattr(work, "load", lambda *_: pytest.fail("analyzed again"))
    assert work.analyze_part(settings, None, recording, WHOLE, output) == result


@pytest.mark.parametrize(
    "values",
    [
        *({"seconds": -1.0}, {"seconds": float("nan")}, {"interval_s": "1"}, {"hash": None}),
        *({"problems": "none"}, {"problems": [1]}, {"other": 1}),
    ],
)
def test_a_damaged_result_of_a_part_counts_as_none(values):
    footer = {"interval_s": 0.1, "hash": "", "problems": ["a"], "seconds": 2}
    kept = PartResult.of(footer)
    assert kept is not None and asdict(kept) == footer | {"problems": ("a",)}
    assert PartResult.of(footer | values) is None
    assert PartResult.of({}) is None and PartResult.of(None) is None


def test_a_file_shorter_than_its_header_says_keeps_all_its_frames(settings, clip, tmp_path):
    parts = [Part(0, 0, 0.55), Part(1, 0.55, 2.05, 0.15), Part(2, 2.05, None, 1.15)]
    (recording,) = find_recordings([str(clip)])
    output = Output(str(tmp_path))
    results = [work.analyze_part(settings, None, recording, part, output) for part in parts]
    assert work.join_parts(settings, recording, parts, results, output).frames == 12
