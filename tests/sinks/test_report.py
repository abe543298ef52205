"""`--report`: the file's content and size, and its protection against injected markup."""

from __future__ import annotations

import base64
import html
import json
import re
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.contexts import make_context, make_info
from helpers.faces import make_face, make_frame
from helpers.paths import SAMPLE
from helpers.videos import write_video

from fer_stream.errors import OutputError, UsageError
from fer_stream.rendering.html import csp_hash
from fer_stream.sinks import ReportSink
from fer_stream.sinks.curves import Curves
from fer_stream.sinks.provenance import Provenance
from fer_stream.sinks.report.thumbnails import picture_quality
from fer_stream.sources import open_source

MOST_BYTES = 5_000_000


def write(path: Path, frames, info=None, **context) -> dict:
    """Write a report and return its content."""
    info = info or make_info(frame_rate=Fraction(25))
    with ReportSink(path, info) as sink:
        sink.begin(make_context(info, **context))
        for frame in frames:
            sink.write(frame)
    assert sink.outputs() == [path]
    return content_of(path)


def content_of(path: Path) -> dict:
    page = path.read_text(encoding="utf-8")
    (text,) = re.findall(r'<script type="application/json" id="content">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def policy_of(path: Path) -> dict[str, list[str]]:
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', path.read_text())
    return {name: rest for name, *rest in map(str.split, html.unescape(policy).split(";"))}


def steady(label: str, count: int, face_id: int = 1, start: int = 0):
    for index in range(start, start + count):
        yield make_frame(index, index / 25, make_face(face_id, label))


def test_the_report_holds_people_episodes_and_provenance(tmp_path):
    frames = [*steady("happy", 50), *steady("unsure", 25, start=50), *steady("sad", 20, 2, start=75)]
    provenance = Provenance("clip.mp4", weights_sha256="ab12", labels="ferplus", unsure_below=0.4)
    content = write(tmp_path / "r.html", frames, provenance=provenance)
    assert [person["id"] for person in content["people"]] == [1, 2]
    first, second = content["people"]
    assert first["seconds"] == pytest.approx({"happy": 2.0, "unsure": 1.0}, abs=0.01)
    assert second["seconds"] == pytest.approx({"sad": 0.8}, abs=0.01)
    labels = content["labels"]
    assert [(row[0], labels[row[3]]) for row in content["episodes"]] == [
        (1, "happy"),
        (1, "unsure"),
        (2, "sad"),
    ]
    assert content["provenance"]["weights_sha256"] == "ab12"
    assert content["provenance"]["labels"] == "ferplus"
    assert content["video"] is None


@pytest.mark.parametrize(
    ("ticks", "seen_s"),
    [
        ([*range(20), *range(90_000, 90_020)], 40 / 25),
        ([0, *range(90_000, 90_020)], 21 / 25),
        ([250 * index for index in range(8)], 80),
    ],
    ids=["gap", "gap after the first frame", "slow"],
)
def test_a_gap_in_an_mp4_is_not_time_that_anyone_was_seen(tmp_path, ticks, seen_s):
    path = write_video(tmp_path / "gap.mp4", ticks, time_base=Fraction(1, 25))
    with open_source(path) as source:
        frames = [make_frame(frame.index, frame.time_s, make_face(1, "happy")) for frame in source]
        content = write(tmp_path / "r.html", frames, source.info)
    assert content["people"][0]["seconds"] == {"happy": pytest.approx(seen_s, rel=0.05)}
    in_episodes_s = sum(end_s - start_s for _, start_s, end_s, *_ in content["episodes"])
    assert in_episodes_s == pytest.approx(seen_s, rel=0.05)


def test_the_curves_are_the_probabilities(tmp_path):
    content = write(tmp_path / "r.html", [*steady("happy", 10), *steady("sad", 10, start=10)])
    curve = content["people"][0]["curve"]
    steps = np.frombuffer(base64.b64decode(curve["steps"]), "<u4")
    values = np.frombuffer(base64.b64decode(curve["values"]), np.uint8).reshape(-1, 7) / 255
    assert len(steps) == len(values) == 20
    assert steps * content["step_s"] == pytest.approx(np.arange(20) / 25, abs=content["step_s"])
    assert values[:10, 3] == pytest.approx(0.88, abs=0.01)
    assert values[10:, 5] == pytest.approx(0.88, abs=0.01)


def test_many_readings_are_averaged_and_stay_bounded():
    curves = Curves(most_points=100)
    for frame in [*steady("happy", 1000), *steady("sad", 1000, start=1000)]:
        curves.add(frame)
    encoded = curves.encoded(1)
    steps = np.frombuffer(base64.b64decode(encoded["steps"]), "<u4")
    values = np.frombuffer(base64.b64decode(encoded["values"]), np.uint8).reshape(-1, 7) / 255
    assert len(steps) <= 100 and (np.diff(steps) > 0).all()
    assert steps[-1] * curves.step_s == pytest.approx(80, abs=2 * curves.step_s)
    assert values.sum(1) == pytest.approx(1, abs=0.02)
    before = steps * curves.step_s < 39
    assert values[before, 3] == pytest.approx(0.88, abs=0.01)
    assert values[~before][-10:, 5] == pytest.approx(0.88, abs=0.01)


def test_a_reading_after_a_gap_of_decades_keeps_its_time():
    curves = Curves()
    for frame in (*steady("happy", 3), make_frame(3, 3e9, make_face(1, "sad"))):
        curves.add(frame)
    steps = np.frombuffer(base64.b64decode(curves.encoded(1)["steps"]), "<u4")
    assert steps * curves.step_s == pytest.approx([0, 3e9], abs=curves.step_s)


def test_a_crowd_for_a_long_time_stays_under_five_megabytes(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)

    def crowd():
        for index in range(4000):
            faces = [
                make_face(7 * (index // 40) + number, "sad" if index % 20 < 10 else "happy")
                for number in range(7)
            ]
            yield make_frame(index, index / 25, *faces, bgr=picture)

    content = write(tmp_path / "r.html", crowd())
    assert len(content["people"]) == 700
    assert (tmp_path / "r.html").stat().st_size < MOST_BYTES


def test_the_report_loads_nothing_from_outside(tmp_path):
    write(tmp_path / "r.html", steady("happy", 5))
    page, policy = (tmp_path / "r.html").read_text(), policy_of(tmp_path / "r.html")
    assert policy["default-src"] == ["'none'"]
    assert policy["img-src"] == ["data:"] and policy["media-src"] == ["'self'"]
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert policy["script-src"] == [csp_hash(script) for script in scripts]
    assert policy["style-src"] == [csp_hash(style) for style in styles]
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert "unsafe" not in html.unescape(page.split("<style>")[0])


def test_names_cannot_inject_markup(tmp_path):
    name = "a</script><script>alert(1)</script><!--&\u2028{{style}}\x1b[31m.mp4"
    info = make_info(name=name)
    provenance = Provenance(source_name=name, options={"save": "</ScRiPt>"})
    content = write(tmp_path / "r.html", steady("happy", 3), info, provenance=provenance)
    page = (tmp_path / "r.html").read_text()
    assert page.lower().count("</script") == page.lower().count("<script") == 8
    assert "alert(1)</script>" in content["provenance"]["source"]
    assert "\x1b" not in page and "<title>" in page
    assert page.count("color-scheme: light dark") == 1


def test_the_video_is_linked_by_a_relative_address(tmp_path):
    info = make_info(start_s=60.0)
    (tmp_path / "videos").mkdir()
    video = tmp_path / "videos" / "a b#1?.mp4"
    frames = [make_frame(index, 60.04 + index / 25, make_face(1, "happy")) for index in range(5)]
    content = write(tmp_path / "r.html", frames, info, saved_video=video)
    assert content["video"] == {
        "src": "./videos/a%20b%231%3F.mp4",
        "name": "a b#1?.mp4",
        "starts_s": 60.04,
    }


@pytest.mark.usefixtures("different_drives")
def test_a_video_on_another_drive_is_linked_by_its_full_address(tmp_path):
    frames = [make_frame(0, 0.0, make_face(1, "happy"))]
    content = write(tmp_path / "r.html", frames, saved_video=tmp_path / "a b.mp4")
    assert content["video"]["src"] == f"{tmp_path.as_uri()}/a%20b.mp4"


def test_the_best_picture_is_large_and_faces_the_camera():
    small, large = make_face(1, "happy", box=(0, 0, 20, 20)), make_face(1, "happy", box=(0, 0, 120, 120))
    turned = make_face(1, "happy", box=(0, 0, 120, 120))
    turned.landmarks_xy[2, 0] += 40
    assert picture_quality(large) > picture_quality(small)
    assert picture_quality(large) > picture_quality(turned)


@pytest.mark.parametrize("box", [(0, 40, 40, 80), (0, 0, 90, 96)])
def test_the_picture_of_a_face_at_the_border_ends_with_the_frame(tmp_path, box):
    bgr = np.zeros((96, 96, 3), np.uint8)
    bgr[:, :4] = 255  # the border, which must not be spread over the picture
    face = make_face(1, "happy", box=box)
    (person,) = write(tmp_path / "r.html", [make_frame(0, 0.0, face, bgr=bgr)])["people"]
    data = base64.b64decode(person["picture"]["src"].partition(",")[2])
    thumbnail = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert thumbnail is not None and (thumbnail > 128).mean() < 0.1


def test_each_expression_has_its_own_picture(tmp_path):
    red, blue = np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64, 3), np.uint8)
    red[..., 2], blue[..., 0] = 200, 200
    frames = [
        make_frame(index, index / 25, make_face(1, label), bgr=bgr)
        for index, (label, bgr) in enumerate([("happy", red)] * 20 + [("sad", blue)] * 20)
    ]
    (person,) = write(tmp_path / "r.html", frames)["people"]
    colors = {}
    for thumbnail in person["pictures"]:
        data = base64.b64decode(thumbnail["src"].partition(",")[2])
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert bgr is not None
        colors[thumbnail["label"]] = "red" if bgr[..., 2].mean() > bgr[..., 0].mean() else "blue"
    assert colors == {"happy": "red", "sad": "blue"}


def test_a_wrong_path_or_source_is_found_at_once(tmp_path):
    with pytest.raises(UsageError, match=r"\.html"):
        ReportSink(tmp_path / "r.pdf", make_info())
    with pytest.raises(UsageError, match="--chart for pictures"):
        ReportSink(tmp_path / "r.html", make_info(kind="images"))
    (tmp_path / "r.html").write_text("precious")
    with pytest.raises(OutputError, match="--overwrite"):
        ReportSink(tmp_path / "r.html", make_info())


def test_a_source_without_faces_has_a_report_too(tmp_path):
    content = write(tmp_path / "r.html", [make_frame(0, 0.0)])
    assert content["people"] == [] and content["episodes"] == []


def test_blur_hides_the_faces_in_the_thumbnails(fer, loaded, detector, tmp_path):
    assert fer(SAMPLE, "--end", 1, "--report", "clear.html", "--quiet").code == 0
    assert fer(SAMPLE, "--end", 1, "--blur", "--report", "hidden.html", "--quiet").code == 0

    def faces_in(report: str) -> list[int]:
        found = []
        for person in content_of(Path(report))["people"]:
            data = base64.b64decode(person["picture"]["src"].partition(",")[2])
            bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            found.append(len(detector.scan(bgr)))
        return found

    assert all(faces_in("clear.html")) and len(faces_in("clear.html")) == 2
    assert not any(faces_in("hidden.html")) and len(faces_in("hidden.html")) == 2
    assert content_of(Path("hidden.html"))["blurred"]
    said = content_of(Path("clear.html"))["provenance"]
    assert len(said["source_sha256"]) == len(said["weights_sha256"]) == 64
    assert said["options"] == {"end": "1", "report": "clear.html"}
