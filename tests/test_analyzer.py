"""The whole analysis: a picture, a clip, and the pixels that the network was trained on."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from helpers.paths import SAMPLE as CLIP

from fer_stream import analyzer as analyzer_module
from fer_stream.analysis import finding as finding_module
from fer_stream.analyzer import Analyzer
from fer_stream.detection.detector import Detector
from fer_stream.detection.geometry import iou_matrix
from fer_stream.errors import SourceError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.profiling import Profile
from fer_stream.recognition import classifier as classifier_module
from fer_stream.recognition.preprocessing import network_input, whole_image
from fer_stream.types import AnalyzedFrame, Frame


def as_rows(analyzed: list[AnalyzedFrame]) -> np.ndarray:
    return np.array(
        [
            (
                one.frame.index,
                one.frame.time_s,
                face.id,
                *face.box_xyxy,
                face.detection_score,
                *face.probabilities,
            )
            for one in analyzed
            for face in one.faces
        ]
    )


def test_a_photograph_has_one_face_in_its_place(analyzer: Analyzer, hopper_bgr: np.ndarray) -> None:
    (face,) = analyzer.analyze(hopper_bgr)
    left, top, right, bottom = face.box_xyxy
    assert (left, top, right, bottom) == pytest.approx((172, 110, 352, 337), abs=12)
    assert ((face.landmarks_xy > (left, top)) & (face.landmarks_xy < (right, bottom))).all()
    assert face.id == 1
    assert face.detection_score > 0.99
    assert face.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert face.expression == EXPRESSIONS[int(np.argmax(face.probabilities))]


def test_a_grey_picture_is_analyzed(analyzer: Analyzer, hopper_bgr: np.ndarray) -> None:
    grey = np.repeat(cv2.cvtColor(hopper_bgr, cv2.COLOR_BGR2GRAY)[:, :, None], 3, axis=2)
    (face,), (coloured,) = analyzer.analyze(grey), analyzer.analyze(hopper_bgr)
    assert iou_matrix(face.box_xyxy[None], coloured.box_xyxy[None])[0, 0] > 0.7


def test_faces_of_a_picture_count_from_the_left(analyzer: Analyzer, hopper_bgr: np.ndarray) -> None:
    two = np.concatenate([hopper_bgr, hopper_bgr[:, ::-1]], axis=1)[::2, ::2]
    for _ in range(2):  # nothing is remembered from the first time
        faces = analyzer.analyze(two)
        assert [face.id for face in faces] == [1, 2]
        assert faces[0].box_xyxy[2] < 256 < faces[1].box_xyxy[0]


def test_each_picture_is_analyzed_by_itself(analyzer: Analyzer, hopper_bgr: np.ndarray) -> None:
    small = np.ascontiguousarray(hopper_bgr[::2, ::2])
    pictures = [small, np.zeros_like(small), small, small[:, ::-1]]
    analyzed = list(
        analyzer.analyze_frames((Frame(bgr, index, 0.0) for index, bgr in enumerate(pictures)), "images")
    )
    assert [[face.id for face in one.faces] for one in analyzed] == [[1], [], [1], [1]]
    np.testing.assert_array_equal(analyzed[0].faces[0].probabilities, analyzed[2].faces[0].probabilities)


def test_a_clip_gives_every_frame_in_order(analyzer: Analyzer, half_size_clip: list[Frame]) -> None:
    analyzed = list(analyzer.analyze_frames(iter(half_size_clip), "video"))
    assert [one.frame for one in analyzed] == half_size_clip
    for one in analyzed:
        assert [face.id for face in one.faces] == [1, 2]


def test_batches_and_threads_change_nothing_but_speed(
    half_size_clip: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    for batch, threads in ((1, 1), (8, 1), (8, 2), (8, 16)):
        one = Analyzer("cpu", batch=batch, threads=threads)
        monkeypatch.setattr(one._classifier, "enough_faces", 5)
        rows.append(as_rows(list(one.analyze_frames(iter(half_size_clip[:13]), "video"))))
    for other in rows[1:]:
        np.testing.assert_allclose(rows[0], other, atol=1e-5)


def test_scanning_adapts_to_a_slow_machine_live_but_never_in_a_recording(
    half_size_clip: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(0, 0.3)  # everything that is timed takes 0.3 s
    for module in (analyzer_module, finding_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    scans, rows, scan = {}, {}, Detector.scan
    for kind, scan_every in (("video", "auto"), ("video", 10), ("camera", "auto"), ("camera", 5)):
        one = Analyzer("cpu", scan_every=scan_every)
        scanned: list[int] = []

        def counting_scan(*at, scanned=scanned):
            scanned.append(1)
            return scan(*at)

        monkeypatch.setattr(Detector, "scan", counting_scan)
        rows[kind, scan_every] = as_rows(list(one.analyze_frames(iter(half_size_clip[:12]), kind)))
        scans[kind, scan_every] = len(scanned)
    assert scans == {("video", "auto"): 2, ("video", 10): 2, ("camera", "auto"): 1, ("camera", 5): 3}
    np.testing.assert_array_equal(rows["video", "auto"], rows["video", 10])
    assert set(rows["camera", "auto"][:, 2]) == {1, 2}


def test_a_gpu_gives_what_the_cpu_gives(half_size_clip: list[Frame], monkeypatch: pytest.MonkeyPatch) -> None:
    # cpu:0 is a torch device, and takes the GPU's code path.
    monkeypatch.setattr(analyzer_module, "pick_device", lambda name: name)
    cpu, gpu = (
        as_rows(list(Analyzer(device).analyze_frames(iter(half_size_clip[:13]), "video")))
        for device in ("cpu", "cpu:0")
    )
    np.testing.assert_array_equal(gpu[:, :3], cpu[:, :3])
    np.testing.assert_allclose(gpu[:, 3:7], cpu[:, 3:7], atol=0.02)
    np.testing.assert_allclose(gpu[:, 7:], cpu[:, 7:], atol=1e-3)


@pytest.mark.parametrize("smooth_s", [0, 1e-310])
def test_smoothing_can_be_turned_off(smooth_s: float, half_size_clip: list[Frame]) -> None:
    every_frame = Analyzer("cpu", smooth_s=smooth_s, scan_every=1)
    last = list(every_frame.analyze_frames(iter(half_size_clip[:4]), "video"))[-1]
    alone = every_frame.analyze(half_size_clip[3].bgr)
    for face, single in zip(last.faces, alone, strict=True):
        np.testing.assert_allclose(face.probabilities, single.probabilities, atol=1e-5)


def test_a_live_frame_does_not_wait_for_the_next(analyzer: Analyzer, half_size_clip: list[Frame]) -> None:
    taken = []

    def camera() -> Iterator[Frame]:
        for frame in half_size_clip:
            taken.append(frame.index)
            yield frame

    stream = analyzer.analyze_frames(camera(), "camera")
    assert next(stream).frame is half_size_clip[0]
    assert taken == [0]


def test_a_live_source_shows_a_face_from_the_second_frame_and_hides_it_from_the_first(
    half_size_clip: list[Frame],
) -> None:
    frames = []
    for frame in half_size_clip[:5]:
        bgr = frame.bgr.copy()
        if frame.index < 3:
            bgr[:, bgr.shape[1] // 2 :] = 90
        frames.append(replace(frame, bgr=bgr))
    # --blur scans every frame, so that no face is seen before it is found.
    analyzed = list(Analyzer("cpu", scan_every=1).analyze_frames(frames, "camera"))
    assert [len(one.faces) for one in analyzed] == [0, 1, 1, 1, 2]
    assert [len(one.possible_faces_xyxy) for one in analyzed] == [1, 1, 1, 2, 2]


def test_faces_that_cross_never_swap_ids(analyzer: Analyzer, hopper_bgr: np.ndarray) -> None:
    card = cv2.resize(hopper_bgr[40:420, 90:440], None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
    other = np.ascontiguousarray(card[:, ::-1, ::-1])  # mirrored, in other colours
    height, width = card.shape[:2]

    def crossing(step_px: int, stop: int) -> Iterator[Frame]:
        """Yield frames in which one face passes behind the other and stays there for some frames."""
        for index in range(380 // step_px + stop):
            moved = step_px * min(index, max(index - stop, 190 // step_px))
            bgr = np.full((200, 500, 3), 128, np.uint8)
            bgr[40 : 40 + height, moved : moved + width] = other
            bgr[50 : 50 + height, 380 - moved : 380 - moved + width] = card
            yield Frame(bgr, index, index / 25)

    for step_px, stop in ((5, 0), (10, 0), (10, 10), (10, 40), (19, 0)):
        analyzed = list(analyzer.analyze_frames(crossing(step_px, stop), "video"))
        first, last = analyzed[3], analyzed[-4]
        assert [face.id for face in first.faces] == [1, 2]
        assert first.faces[0].box_xyxy[0] < first.faces[1].box_xyxy[0]
        for face in last.faces:
            assert (face.box_xyxy[0] > 200) == (face.id == 1), (step_px, stop, face.id)
        # The face behind is found again, unless the recording ends before the next search.
        assert len(last.faces) == 2 or step_px == 19


def test_a_cautious_analyzer_hides_more_and_shows_the_same(half_size_clip: list[Frame]) -> None:
    blurred = cv2.GaussianBlur(half_size_clip[0].bgr, (0, 0), 7)  # one of the two is barely detectable
    frames = [replace(frame, bgr=blurred) for frame in half_size_clip[:3]]
    shown, possible = [], []
    for cautious in (False, True):
        analyzed = list(
            Analyzer("cpu", scan_every=1, cautious=cautious).analyze_frames(iter(frames), "video")
        )
        shown.append([len(one.faces) for one in analyzed])
        possible.append(sum(len(one.possible_faces_xyxy) for one in analyzed))
    assert shown == [[1, 1, 1], [1, 1, 1]]
    assert possible == [3, 6]


@pytest.mark.parametrize("kind_of_error", [SourceError, ValueError])
def test_frames_before_an_error_are_not_lost(
    analyzer: Analyzer, half_size_clip: list[Frame], kind_of_error: type[Exception]
) -> None:
    def breaks_off() -> Iterator[Frame]:
        yield from half_size_clip[:5]
        raise kind_of_error("the file breaks off; copy it again")

    seen = []
    with pytest.raises(kind_of_error, match="breaks off"):
        for one in analyzer.analyze_frames(breaks_off(), "video"):
            seen.append(one.frame.index)  # noqa: PERF401 - what came before the error counts
    assert seen == [0, 1, 2, 3, 4]


def test_stopping_early_leaves_no_thread(analyzer: Analyzer, half_size_clip: list[Frame]) -> None:
    before, taken = threading.active_count(), []

    def endless() -> Iterator[Frame]:
        for frame in itertools.cycle(half_size_clip):
            taken.append(frame)
            yield frame

    analysis = analyzer.analyze_frames(endless(), "video")
    next(analysis)
    analysis.close()
    assert threading.active_count() <= before
    assert len(taken) < 50


def test_a_program_can_end_in_the_middle_of_an_analysis(tmp_path: Path) -> None:
    program = f"""
import threading
from fer_stream import Analyzer
stream = Analyzer(threads=2).stream({str(CLIP)!r})
index = next(stream).frame.index
# A scan may run in a thread of its own at this moment.
print(index, [thread.name for thread in threading.enumerate()].count("fer-stream-background"))
"""
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 1\n", "")


def test_the_profile_times_each_stage(half_size_clip: list[Frame]) -> None:
    profile = Profile()
    list(Analyzer("cpu", profile=profile).analyze_frames(iter(half_size_clip[:4]), "video"))
    stages = profile.stages_ms()
    assert set(stages) == {"detect", "classify"}
    assert stages["detect"]["p50"] > 0.1 and stages["classify"]["p50"] > 0.1  # ms


@pytest.mark.slow
def test_a_video_shows_the_network_the_pixels_of_its_training(
    analyzer: Analyzer, fer2013_pictures: list[tuple[int, np.ndarray]]
) -> None:
    """Accuracy holds if training pictures are enlarged, put into a frame, detected and cut out again."""
    spec = analyzer._classifier.input
    random = np.random.default_rng(4)
    found, right_directly, right_in_frames = 0, 0, 0
    for truth, image in fer2013_pictures:
        side = int(48 * random.uniform(3, 4))
        frame = np.full((360, 480, 3), 128, np.uint8)
        left, top = int(random.integers(20, 460 - side)), int(random.integers(20, 340 - side))
        frame[top : top + side, left : left + side] = cv2.resize(
            image, (side, side), interpolation=cv2.INTER_CUBIC
        )
        faces = [face for face in analyzer.analyze(frame) if face.box_xyxy[2] - face.box_xyxy[0] > side / 3]
        if not faces:
            continue
        found += 1
        directly = analyzer._classifier.read(network_input(image, whole_image(image), spec)[None])
        right_directly += int(directly.argmax()) == truth
        right_in_frames += int(faces[0].probabilities.argmax()) == truth
    assert found >= 0.75 * len(fer2013_pictures)
    print(f"{found} of {len(fer2013_pictures)} found; right: {right_directly}, in frames {right_in_frames}")
    assert right_in_frames >= right_directly - 0.04 * found
    assert right_directly > found / 4  # chance is a seventh, so neither is noise


@pytest.mark.parametrize("labels", ["ferplus", "fer2013"])
def test_a_tilted_head_is_read_more_like_the_upright_one(
    labels: str, hopper_bgr: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyzer = Analyzer("cpu", labels=labels)
    (upright,) = analyzer.analyze(hopper_bgr)
    middle = tuple(float(value) for value in (upright.box_xyxy[:2] + upright.box_xyxy[2:]) / 2)

    def distance() -> float:
        distances = []
        for degrees in (-50, -40, -30, -20, 20, 30, 40, 50):
            turn = cv2.getRotationMatrix2D(middle, degrees, 1.0)
            turned = cv2.warpAffine(
                hopper_bgr, turn, hopper_bgr.shape[1::-1], borderMode=cv2.BORDER_REPLICATE
            )
            (face,) = analyzer.analyze(turned)
            distances.append(np.abs(face.probabilities - upright.probabilities).sum())
        return float(np.mean(distances))

    turned_back = distance()
    monkeypatch.setattr(classifier_module, "face_roll", lambda _: 0.0)
    assert turned_back < distance()
