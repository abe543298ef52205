"""The content of charts, read back from the written files."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.faces import make_face, make_frame

from fer_stream.errors import OutputError, UsageError
from fer_stream.expressions import EXPRESSIONS, color_bgr
from fer_stream.rendering.charts import Timeline, face_chart
from fer_stream.rendering.charts import timeline as timeline_module
from fer_stream.rendering.charts.figure import tick_times
from fer_stream.types import AnalyzedFrame, Face, Frame


def frame_at(
    index: int, frames_per_s: float, faces: Sequence[Face], bgr: np.ndarray | None = None
) -> AnalyzedFrame:
    picture = np.full((180, 320, 3), 90, np.uint8) if bgr is None else bgr
    return make_frame(index, index / frames_per_s, *faces, bgr=picture)


def face_with(label: str, confidence: float, box=(100, 60, 140, 110), *, unsure: bool = False) -> Face:
    return replace(make_face(1, label, confidence, box), unsure=unsure)


def texts(path: Path) -> list[str]:
    """Return the texts of an SVG. matplotlib writes each text beside its outlines."""
    lines = path.read_text().splitlines()
    return [line.strip()[5:-4] for line in lines if line.strip().startswith("<!-- ")]


def pixels_of(path: Path, expression: str) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None, "the chart does not decode"
    return (np.abs(image.astype(int) - color_bgr(expression)) <= 3).all(axis=2)


def test_a_picture_stands_beside_its_bars(tmp_path):
    path = tmp_path / "chart.png"
    picture = np.zeros((180, 320, 3), np.uint8)
    picture[:] = (200, 30, 150)
    face_chart(picture, make_face(1, "sad"), path)
    chart = cv2.imread(str(path))
    shown = (np.abs(chart.astype(int) - (200, 30, 150)) <= 3).all(axis=2)
    ys, xs = np.nonzero(shown)
    assert xs.max() < 0.65 * chart.shape[1]
    assert (np.ptp(xs) + 1) / (np.ptp(ys) + 1) == pytest.approx(320 / 180, rel=0.02)
    bars = pixels_of(path, "sad")[:, xs.max() + 5 :]
    others = pixels_of(path, "fear")[:, xs.max() + 5 :]
    assert bars.sum(axis=1).max() == pytest.approx(44 * others.sum(axis=1).max(), rel=0.25)


@pytest.mark.parametrize(
    ("count", "charted", "largest", "said"),
    [(1, 1, [], []), (4, 4, [1, 4], []), (9, 6, [4, 9], ["+3 smaller faces not charted"])],
)
def test_every_face_gets_its_bars_up_to_a_sensible_number(tmp_path, count, charted, largest, said):
    faces = [make_face(at + 1, box=(10 * at, 0, 10 * at + 9 + at, 20)) for at in range(count)]
    path = tmp_path / "chart.svg"
    face_chart(np.zeros((180, 320, 3), np.uint8), faces, path)
    found = texts(path)
    assert found.count("surprise") == charted
    assert sum("happy 88 %" in text for text in found) == charted
    assert [text for text in found if "smaller face" in text] == said
    assert all(any(text.startswith(f"{face_id} ") for text in found) for face_id in largest)


def test_a_picture_without_a_face_says_so(tmp_path):
    path = tmp_path / "chart.svg"
    face_chart(np.zeros((180, 320, 3), np.uint8), [], path)
    assert "no face found" in texts(path)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".PNG", ".jpg", ".JPEG"])
def test_the_suffix_chooses_the_format(tmp_path, suffix):
    path = tmp_path / f"timeline{suffix}"
    timeline = Timeline(path)
    timeline.add(frame_at(0, 25, [make_face(1)]))
    timeline.save()
    start = path.read_bytes()[:300]
    marks = {".png": b"PNG", ".svg": b"<?xml", ".pdf": b"%PDF", ".jpg": b"JFIF", ".jpeg": b"JFIF"}
    assert marks[suffix.lower()] in start
    if marks[suffix.lower()] in (b"PNG", b"JFIF"):
        assert cv2.imread(str(path))[5, 5].min() >= 254, "the background is white"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name], "nothing temporary is left"


def test_an_unknown_suffix_is_refused_at_once(tmp_path):
    with pytest.raises(UsageError, match=r"timeline\.gif.*\.png"):
        Timeline(tmp_path / "timeline.gif")
    with pytest.raises(UsageError):
        face_chart(np.zeros((8, 8, 3), np.uint8), [], tmp_path / "chart")


def test_a_chart_that_cannot_be_written_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="can't write the chart"):
        face_chart(np.zeros((8, 8, 3), np.uint8), [], tmp_path / "missing" / "chart.png")
    taken = tmp_path / "chart.png"
    taken.mkdir()
    with pytest.raises(OutputError):
        Timeline(taken).save()
    assert [entry.name for entry in tmp_path.iterdir()] == ["chart.png"]


def test_an_old_chart_survives_a_failure(tmp_path, monkeypatch):
    path = tmp_path / "timeline.png"
    path.write_bytes(b"old")

    def fail(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        Timeline(path).save()
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_areas_lie_where_the_expressions_were(tmp_path):
    path = tmp_path / "timeline.png"
    timeline = Timeline(path, source_name="clip.mp4")
    for index in range(250):
        timeline.add(frame_at(index, 25, [make_face(1, "happy" if index < 125 else "sad")]))
    timeline.save()
    # The rows of the plot, below the legend.
    happy, sad = (pixels_of(path, name)[200:] for name in ("happy", "sad"))
    strong_happy, strong_sad = (np.flatnonzero(area.sum(axis=0) > 80) for area in (happy, sad))
    assert strong_happy.max() == pytest.approx(strong_sad.min(), abs=30)
    assert np.ptp(strong_happy) == pytest.approx(np.ptp(strong_sad), rel=0.05)


def test_a_face_that_leaves_and_comes_back_leaves_a_gap(tmp_path):
    path = tmp_path / "timeline.png"
    timeline = Timeline(path)
    for index in range(250):
        here = index < 75 or index >= 150  # away from 3 to 6 of 10 s
        timeline.add(frame_at(index, 25, [make_face(1, "fear")] if here else []))
    timeline.save()
    columns = np.flatnonzero(pixels_of(path, "fear")[200:].sum(axis=0) > 80)
    steps = np.diff(columns)
    assert np.count_nonzero(steps > 5) == 1
    assert steps.max() / (np.ptp(columns) + 1) == pytest.approx(0.3, abs=0.02)


def test_where_a_face_was_not_seen_area_and_strip_are_grey(tmp_path):
    path = tmp_path / "timeline.png"
    timeline = Timeline(path)
    for index in range(250):
        timeline.add(frame_at(index, 25, [make_face(1, "sad")] if index < 125 else []))
    timeline.save()
    shown = pixels_of(path, "sad")[230:]  # below the legend
    rows, columns = np.flatnonzero(shown.sum(axis=1) > 100), np.flatnonzero(shown.sum(axis=0) > 80)
    away = cv2.imread(str(path))[230:, columns.max() + 40]
    area, strip = away[rows[0] + 20], away[rows[-1] - 5]
    assert (area == strip).all() and area.min() > 200 and area.max() < 240


def test_a_face_missed_for_a_frame_or_two_leaves_no_gap(tmp_path):
    path = tmp_path / "timeline.png"
    timeline = Timeline(path)
    for index in range(250):
        timeline.add(frame_at(index, 25, [make_face(1, "fear")] if index % 20 else []))
    timeline.save()
    columns = np.flatnonzero(pixels_of(path, "fear")[200:].sum(axis=0) > 80)
    assert np.diff(columns).max() <= 5


@pytest.mark.parametrize(
    ("frames", "fps", "label"),
    [(125, 25.0, "0:04"), (720, 0.2, "50:00"), (1080, 0.1, "2:30:00")],
)
def test_the_time_axis_reads_like_a_clock(tmp_path, frames, fps, label):
    path = tmp_path / "timeline.svg"
    timeline = Timeline(path, source_name="a $talk$ of 50 %.mp4")
    for index in range(frames):
        timeline.add(frame_at(index, fps, [make_face(1)]))
    timeline.save()
    found = texts(path)
    assert label in found
    assert "a $talk$ of 50 %.mp4" in found
    assert found.count("surprise") == 1, "one legend"


def test_a_part_of_a_recording_keeps_the_recordings_times(tmp_path):
    path = tmp_path / "timeline.svg"
    timeline = Timeline(path)
    for index in range(60 * 25, 65 * 25):
        timeline.add(frame_at(index, 25, [make_face(1)]))
    timeline.save()
    assert "1:03" in texts(path) and "0:03" not in texts(path)


@pytest.mark.parametrize(("first_s", "labels"), [(5.005, ["0:05", "0:06"]), (5.7, ["0:05.7", "0:08.0"])])
def test_the_axis_of_a_part_begins_with_a_label_that_touches_no_other(tmp_path, first_s, labels):
    path = tmp_path / "timeline.svg"
    timeline = Timeline(path)
    for index in range(350):
        timeline.add(make_frame(index, first_s + index / 25, make_face(1)))
    timeline.save()
    assert texts(path)[:2] == labels


@pytest.mark.parametrize("span_s", [0.0, 9 * 86_400, 9 * 86_400 + 1, 1e8, 2e9])
def test_the_time_axis_has_at_most_ten_labels(span_s):
    assert len(tick_times(0.0, span_s)) <= 10


def test_a_crowd_stays_readable(tmp_path):
    path = tmp_path / "timeline.svg"
    timeline = Timeline(path)
    for index in range(500):
        # Fourteen faces stay long, higher ids longer. Twelve more stay for 0.2 s each.
        faces = [make_face(face_id) for face_id in range(1, 15) if index < 300 + 10 * face_id]
        faces += [make_face(100 + index // 5)] if index < 60 else []
        timeline.add(frame_at(index, 25, faces))
    timeline.save()
    rows = [text for text in texts(path) if text.startswith("person ")]
    assert rows == [f"person {face_id}" for face_id in range(3, 15)]
    assert any(text.startswith("+14 people seen for 12.8 s or less") for text in texts(path))


def test_faces_seen_for_a_moment_are_only_counted(tmp_path):
    path = tmp_path / "timeline.svg"
    timeline = Timeline(path)
    for index in range(250):
        timeline.add(frame_at(index, 25, [make_face(1), make_face(2 + index // 5)]))
    timeline.save()
    assert [text for text in texts(path) if text.startswith("person ")] == ["person 1"]
    assert "+50 people seen for under 0.5 s" in texts(path)


def test_a_timeline_without_faces_says_so(tmp_path):
    path = tmp_path / "timeline.svg"
    timeline = Timeline(path)
    for index in range(10):
        timeline.add(frame_at(index, 25, []))
    timeline.save()
    assert "no face found" in texts(path)


def colored(color_bgr) -> np.ndarray:
    picture = np.zeros((180, 320, 3), np.uint8)
    picture[:] = color_bgr
    return picture


def test_the_picture_is_the_person_at_the_peak_of_the_expression_beside_it(tmp_path):
    path = tmp_path / "timeline.png"
    timeline = Timeline(path)
    calm, peak, sad = colored((10, 10, 250)), colored((10, 250, 10)), colored((250, 10, 10))
    for index in range(100):
        if index == 60:  # the peak of "happy", which is shown longest
            face, picture = face_with("happy", 0.95), peak
        elif index > 80:  # larger and more confident, but another expression
            face, picture = face_with("sad", 0.99, (40, 10, 200, 170)), sad
        else:
            face, picture = face_with("happy", 0.7), calm
        timeline.add(frame_at(index, 25, [face], picture))
    timeline.save()
    timeline._path = tmp_path / "timeline.svg"
    timeline.save()
    said = " ".join(texts(tmp_path / "timeline.svg"))
    assert "happy 81 %" in said and "happy 95 %" in said and "0:02.4: probability of" in said
    chart = cv2.imread(str(path))
    assert (chart == (10, 250, 10)).all(axis=2).sum() > 5000
    assert not (chart == (10, 10, 250)).all(axis=2).any() and not (chart == (250, 10, 10)).all(axis=2).any()


def test_the_mark_is_at_the_peak_of_the_curve_and_the_picture_is_the_best_view_near_it(tmp_path):
    path = tmp_path / "timeline.png"
    timeline = Timeline(path)
    calm, large, peak, late = (
        colored(color) for color in ((10, 10, 250), (10, 250, 10), (250, 10, 10), (10, 250, 250))
    )
    for index in range(100):
        face, picture = face_with("happy", 0.8), calm
        if index == 42:  # nearly as happy as at the peak, and much larger
            face, picture = face_with("happy", 0.94, (40, 10, 200, 170)), large
        elif index == 50:
            face, picture = face_with("happy", 0.95), peak
        elif index == 90:  # as happy and as large, but long after the peak
            face, picture = face_with("happy", 0.94, (20, 0, 220, 180)), late
        timeline.add(frame_at(index, 25, [face], picture))
    timeline.save()
    timeline._path = tmp_path / "timeline.svg"
    timeline.save()
    said = " ".join(texts(tmp_path / "timeline.svg"))
    assert "0:02.0: probability of" in said and "happy 95 %" in said
    chart = cv2.imread(str(path))
    assert (chart == (10, 250, 10)).all(axis=2).sum() > 5000
    plot = np.flatnonzero(pixels_of(path, "happy")[350])
    mark = np.flatnonzero((chart < 60).all(axis=2)[195:214, plot[0] :].any(axis=0))  # just above the plot
    assert mark.mean() / np.ptp(plot) == pytest.approx(50.5 / 100, abs=0.005)


def test_the_better_picture_is_shown_for_equal_peaks(tmp_path):
    path = tmp_path / "timeline.png"
    timeline = Timeline(path)
    far, near = colored((10, 10, 250)), colored((10, 250, 10))
    for index in range(60):
        is_near = index == 30
        box = (80, 10, 220, 170) if is_near else (100, 60, 140, 110)
        timeline.add(frame_at(index, 25, [make_face(1, box=box)], near if is_near else far))
    timeline.save()
    chart = cv2.imread(str(path))
    assert (chart == (10, 250, 10)).all(axis=2).sum() > 5000
    assert not (chart == (10, 10, 250)).all(axis=2).any()


def test_the_axis_says_probability_and_shares_are_named(tmp_path):
    path = tmp_path / "timeline.svg"
    timeline = Timeline(path)
    for index in range(50):
        timeline.add(frame_at(index, 25, [make_face(1)]))
    timeline.save()
    found = texts(path)
    assert {"0", "50", "100 %", "probability"} <= set(found)
    assert any("1 person  ·  2.0 s  ·" in text for text in found)
    assert "seen for 2.0 s, of that time" in found and "happy 100 %" in found


def test_the_largest_shares_are_named_first(tmp_path):
    path = tmp_path / "timeline.svg"
    timeline = Timeline(path)
    for index in range(100):
        label = "happy" if index < 25 else "sad" if index < 70 else "neutral" if index < 80 else "fear"
        timeline.add(frame_at(index, 25, [face_with(label, 0.8, unsure=index >= 80)]))
    timeline.save()
    found = texts(path)
    assert found[found.index("sad 45 %, happy 25 %,") + 1] == "unsure 20 %, neutral 10 %"


def test_the_lines_beside_a_person_are_evenly_spaced(tmp_path):
    path = tmp_path / "timeline.svg"
    timeline = Timeline(path)
    for index in range(50):  # "neutral" has no letter below the line, the first line has
        timeline.add(frame_at(index, 25, [make_face(1, "neutral")]))
    timeline.save()
    lines = path.read_text().splitlines()
    heights = [
        float(re.search(r"translate\(\S+ (\S+)\)", lines[at + 1])[1])
        for at, line in enumerate(lines)
        if re.search(r"<!-- (seen for|neutral \d|▾ \d)", line)
    ]
    assert len(heights) == 4
    assert np.diff(heights) == pytest.approx(np.diff(heights).mean(), abs=0.02)


def test_the_legend_explains_where_nobody_was_seen_and_where_the_areas_are_hatched(tmp_path):
    path = tmp_path / "timeline.svg"
    timeline = Timeline(path)
    timeline.add(frame_at(0, 25, [make_face(1)]))
    timeline.save()
    assert "not seen" in texts(path) and any("hatched where unsure" in text for text in texts(path))


@pytest.mark.parametrize(("frames", "fps"), [(105, 25.0), (33, 7.0), (2000, 30.0)])
def test_strip_and_area_begin_and_end_together(tmp_path, frames, fps):
    path = tmp_path / "timeline.png"
    timeline = Timeline(path, interval_s=1 / fps)
    for index in range(frames):
        here = 0.2 * frames < index < 0.7 * frames
        timeline.add(frame_at(index, fps, [make_face(1, "sad")] if here else []))
    timeline.save()
    shown = pixels_of(path, "sad")[230:]  # below the legend
    rows = np.flatnonzero(shown.sum(axis=1) > 100)
    area, strip = shown[rows[0] + 20], shown[rows[-1] - 5]
    assert rows[-1] - rows[0] > 100
    for end in (0, -1):
        assert abs(np.flatnonzero(area)[end] - np.flatnonzero(strip)[end]) <= 1


def test_unsure_stretches_are_hatched_and_not_an_expression(tmp_path):
    path = tmp_path / "timeline.png"
    timeline = Timeline(path)
    for index in range(250):
        timeline.add(frame_at(index, 25, [face_with("sad", 0.8, unsure=index >= 125)]))
    timeline.save()
    sad = np.flatnonzero(pixels_of(path, "sad")[230:].sum(axis=0) > 80)
    assert np.ptp(sad) < 0.45 * cv2.imread(str(path)).shape[1], (
        "strip and area of the unsure half are not blue"
    )
    hatched = np.flatnonzero(pixels_of(path, "unsure")[230:].any(axis=0))
    assert hatched.min() > sad.max() - 5 and np.ptp(hatched) == pytest.approx(np.ptp(sad), rel=0.05)
    timeline._path = tmp_path / "timeline.svg"
    timeline.save()
    assert {"sad 50 %, unsure 50 %", "unsure 50 %, sad 50 %"} & set(texts(tmp_path / "timeline.svg"))


def test_an_unsure_face_of_a_picture_has_bars_and_no_expression_in_its_title(tmp_path):
    path = tmp_path / "chart.svg"
    face_chart(np.zeros((180, 320, 3), np.uint8), face_with("sad", 0.718, unsure=True), path)
    found = texts(path)
    assert "unsure" in found and "71 %" in found and "sad 71 %" not in found and "72 %" not in found


def test_memory_stays_bounded_and_means_stay_right_for_a_long_video(tmp_path, monkeypatch):
    monkeypatch.setattr(timeline_module, "MOST_BINS", 64)
    path = tmp_path / "timeline.png"
    timeline = Timeline(path)
    picture = np.zeros((90, 160, 3), np.uint8)
    sizes = []
    for index in range(4000):
        faces = [make_face(1, "happy" if index < 2000 else "sad"), make_face(2 + index // 30)]
        timeline.add(frame_at(index, 2.0, faces, picture))
        if index % 100 == 99:
            sizes.append(timeline.kept_bytes)
    assert max(sizes[20:]) <= 1.5 * max(sizes[:20])
    assert len(timeline._records) <= 2 * timeline_module.MOST_KEPT_FACES
    _, means, _ = timeline._records[1].curve.means()
    assert np.allclose(means.sum(axis=1), 1, atol=1e-5)
    assert means[:, EXPRESSIONS.index("happy")].mean() == pytest.approx(0.45, abs=0.03)
    timeline.save()
    assert cv2.imread(str(path)) is not None


def test_charts_can_be_drawn_in_several_threads(tmp_path):
    errors: list[BaseException] = []

    def draw(name: str) -> None:
        try:
            face_chart(np.zeros((90, 160, 3), np.uint8), make_face(1), tmp_path / name)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=draw, args=(f"{at}.png",)) for at in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len({(tmp_path / f"{at}.png").read_bytes() for at in range(3)}) == 1


def test_matplotlib_loads_only_with_the_first_chart():
    code = "import sys, fer_stream.rendering.charts; assert not {'matplotlib', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_is_not_valid_text_is_drawn(tmp_path, recwarn):
    for suffix in ("png", "svg"):
        timeline = Timeline(tmp_path / f"a.{suffix}", source_name="\udcff \x01 日本.mp4")
        timeline.add(AnalyzedFrame(Frame(np.zeros((4, 4, 3), np.uint8), 0, 0.0), ()))
        timeline.save()
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "\x01" not in text
