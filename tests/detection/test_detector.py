"""The detector finds the faces that facenet-pytorch's MTCNN finds, follows them, and survives any picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_stream.detection.association import STILL_THERE_SCORE
from fer_stream.detection.cascade import CpuCascade
from fer_stream.detection.detector import O_NET_THRESHOLD, Detector
from fer_stream.detection.geometry import clipped, iou_matrix
from fer_stream.detection.pixels import PartPixels, SquarePixels, SummedPixels
from fer_stream.system import thread_pool
from fer_stream.system.thread_pool import ThreadPool
from fer_stream.types import Detections

HOPPER_FACE = np.array([172, 110, 352, 337], np.float32)  # px in the photograph of 512 x 600


def placed(
    picture: np.ndarray, scale: float, top_left: tuple[int, int], size_wh: tuple[int, int]
) -> np.ndarray:
    """Return a grey frame with the scaled picture at a place. Parts outside the frame are cut off."""
    frame = np.full((size_wh[1], size_wh[0], 3), 96, np.uint8)
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    left, top = top_left
    x, y = max(left, 0), max(top, 0)
    part = small[y - top : size_wh[1] - top, x - left : size_wh[0] - left]
    frame[y : y + part.shape[0], x : x + part.shape[1]] = part
    return frame


def first_frame_of_the_street(shared_data: Path) -> np.ndarray:
    video = cv2.VideoCapture(str(shared_data / "videos" / "street-1080p.mp4"))
    frame = video.read()[1]
    video.release()
    return frame


def assert_inside(found: Detections, image: np.ndarray) -> None:
    height, width = image.shape[:2]
    assert (found.boxes_xyxy[:, :2] >= 0).all()
    assert (found.boxes_xyxy[:, 2:] <= (width, height)).all()
    assert (found.boxes_xyxy[:, :2] < found.boxes_xyxy[:, 2:]).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()


SCENES = {
    "photograph": (1.0, (0, 0), (512, 600)),
    "small face": (0.3, (231, 57), (640, 360)),
    "smallest face": (0.21, (300, 200), (500, 400)),
    "odd size": (0.55, (33, 11), (471, 393)),
    "cut off at the top left": (0.8, (-170, -120), (400, 400)),
    "cut off at the right": (0.7, (250, 60), (450, 480)),
    "cut off at the bottom": (0.9, (60, 230), (640, 480)),
}


@pytest.mark.parametrize("scene", SCENES.values(), ids=list(SCENES))
def test_a_scan_finds_what_facenet_pytorch_finds(
    detector: Detector, shipped, hopper_bgr: np.ndarray, scene
) -> None:
    image = placed(hopper_bgr, *scene)
    expected_boxes, expected_scores, expected_points = shipped.detect(
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB), landmarks=True
    )
    expected_points = expected_points.astype(np.float32)
    expected_boxes = clipped(expected_boxes, (image.shape[1], image.shape[0]))
    found = detector.scan(image)
    assert_inside(found, image)
    assert len(found) == len(expected_boxes) == 1
    assert iou_matrix(found.boxes_xyxy, expected_boxes)[0, 0] > 0.98
    np.testing.assert_allclose(found.scores, expected_scores.astype(np.float32), atol=2e-3)
    np.testing.assert_allclose(found.landmarks_xy, expected_points, atol=1.5)


def test_a_scan_finds_both_of_two_faces(detector: Detector, shipped, hopper_bgr: np.ndarray) -> None:
    image = placed(hopper_bgr, 0.4, (10, 20), (640, 360))
    image[:, 340:] = placed(hopper_bgr[:, ::-1], 0.55, (10, 10), (300, 360))
    expected, _ = shipped.detect(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    found = detector.scan(image)
    assert len(found) == len(expected) == 2
    assert (iou_matrix(found.boxes_xyxy, expected.astype(np.float32)).max(axis=1) > 0.98).all()


def test_a_scan_finds_the_crowd_that_facenet_pytorch_finds(detector: Detector, shipped, shared_data) -> None:
    video = cv2.VideoCapture(str(shared_data / "videos" / "street-1080p.mp4"))
    image = video.read()[1]
    video.release()
    expected, _ = shipped.detect(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    found = detector.scan(image)
    assert len(found) == len(expected) >= 3
    assert (iou_matrix(found.boxes_xyxy, expected.astype(np.float32)).max(axis=1) > 0.95).all()


def test_landmarks_lie_where_the_docs_say(detector: Detector, hopper_bgr: np.ndarray) -> None:
    left_eye, right_eye, nose, left_mouth, right_mouth = detector.scan(hopper_bgr).landmarks_xy[0]
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < nose[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


@pytest.mark.parametrize("size_wh", [(1, 1), (2, 2), (400, 11), (11, 400), (39, 39), (40, 40), (640, 360)])
@pytest.mark.parametrize("content", ["black", "white", "noise", "stripes"])
def test_no_face_where_there_is_none(detector: Detector, size_wh: tuple[int, int], content: str) -> None:
    width, height = size_wh
    image = np.zeros((height, width, 3), np.uint8)
    if content == "white":
        image[:] = 255
    elif content == "noise":
        image[:] = np.random.default_rng(7).integers(0, 256, image.shape)
    elif content == "stripes":
        image[:, ::3] = 255
    assert len(detector.scan(image)) == 0
    places = np.array([[0, 0, 40, 40], [-90, -80, -30, -20], [5000, 0, 5060, 60], [3, 3, 3, 3]], np.float32)
    followed = detector.refine(image, places)
    assert len(followed) == len(places)
    assert (followed.scores < STILL_THERE_SCORE).all()
    assert_inside(followed, image)


def test_smaller_faces_than_asked_for_are_left_out(hopper_bgr: np.ndarray) -> None:
    image = placed(hopper_bgr, 0.35, (100, 60), (640, 360))  # its face is 63 x 79 px
    for min_face, expected in ((20, 1), (50, 1), (200, 0)):
        assert len(Detector("cpu", min_face=min_face).scan(image)) == expected


@pytest.mark.parametrize("move", [(0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1), (0.07, 0.07)])
@pytest.mark.parametrize("scale", [1.0, 0.35])
def test_a_face_that_moved_is_followed(
    detector: Detector, hopper_bgr: np.ndarray, move: tuple[float, float], scale: float
) -> None:
    image = placed(hopper_bgr, scale, (60, 40), (640, 660))
    here = detector.scan(image).boxes_xyxy
    side = float((here[0, 2:] - here[0, :2]).max())
    before = here - np.array([*move, *move], np.float32) * side
    followed = detector.refine(image, before)
    assert followed.scores[0] > 0.95
    assert iou_matrix(followed.boxes_xyxy, here)[0, 0] > 0.7


def test_following_settles_on_the_face(detector: Detector, hopper_bgr: np.ndarray) -> None:
    here = detector.scan(hopper_bgr).boxes_xyxy
    boxes = here + 20
    for _ in range(30):
        boxes = detector.refine(hopper_bgr, boxes).boxes_xyxy
    assert iou_matrix(boxes, here)[0, 0] > 0.75


def test_following_says_that_a_face_has_gone(detector: Detector, hopper_bgr: np.ndarray) -> None:
    image = placed(hopper_bgr, 0.5, (300, 30), (640, 360))
    background = np.array([[20, 20, 130, 150], [150, 180, 260, 300]], np.float32)
    assert (detector.refine(image, background).scores < STILL_THERE_SCORE).all()


def test_several_faces_are_followed_in_their_order(detector: Detector, hopper_bgr: np.ndarray) -> None:
    image = placed(hopper_bgr, 0.5, (300, 30), (640, 360))
    face = detector.scan(image).boxes_xyxy[0]
    elsewhere = np.array([20, 20, 130, 150], np.float32)
    together = detector.refine(image, np.stack([elsewhere, face + 6, elsewhere + 30]))
    assert (together.scores > O_NET_THRESHOLD).tolist() == [False, True, False]
    alone = detector.refine(image, (face + 6)[None])
    np.testing.assert_allclose(together.boxes_xyxy[1], alone.boxes_xyxy[0], atol=1e-2)


def test_following_no_face_gives_no_detection(detector: Detector, hopper_bgr: np.ndarray) -> None:
    assert len(detector.refine(hopper_bgr, np.zeros((0, 4), np.float32))) == 0


def test_detecting_does_not_change_the_picture(detector: Detector, hopper_bgr: np.ndarray) -> None:
    image = hopper_bgr.copy()
    detector.refine(image, detector.scan(image).boxes_xyxy)
    np.testing.assert_array_equal(image, hopper_bgr)


def test_a_view_of_a_picture_can_be_scanned(detector: Detector, hopper_bgr: np.ndarray) -> None:
    wide = np.concatenate([np.full_like(hopper_bgr, 96), hopper_bgr], axis=1)
    view = wide[:, 512:]  # not contiguous
    np.testing.assert_array_equal(detector.scan(view).boxes_xyxy, detector.scan(hopper_bgr).boxes_xyxy)


def three_frames(hopper_bgr: np.ndarray) -> list[np.ndarray]:
    """Return three frames: without a face, with one, and with two."""
    one = placed(hopper_bgr, 0.4, (10, 20), (640, 360))
    two = one.copy()
    two[:, 340:] = placed(hopper_bgr[:, ::-1], 0.55, (10, 10), (300, 360))
    return [np.full_like(one, 90), one, two]


def assert_same(found: Detections, expected: Detections) -> None:
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-2)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(found.landmarks_xy, expected.landmarks_xy, atol=1e-2)


@pytest.mark.slow
def test_a_gpu_finds_and_follows_the_same_faces(
    detector: Detector, gpu_detector: Detector, hopper_bgr: np.ndarray
) -> None:
    # The sizes differ, so that each picture leaves a different layout in the device's memory for the next.
    empty, one, two = three_frames(hopper_bgr)
    small = np.ascontiguousarray(hopper_bgr[::2, ::2])
    assert_same(gpu_detector.scan(empty), detector.scan(empty))
    for frame, count in ((one, 1), (small, 1), (two, 2)):
        scanned = detector.scan(frame)
        assert len(scanned) == count
        assert_same(gpu_detector.scan(frame), scanned)
        moved = scanned.boxes_xyxy + np.array([4, -3, 4, -3], np.float32)
        assert_same(gpu_detector.refine(frame, moved), detector.refine(frame, moved))
        assert_same(gpu_detector.scan(frame, moved), detector.scan(frame, moved))
        assert_same(gpu_detector.search(frame, moved[0]), detector.search(frame, moved[0]))


def test_one_thread_scans_while_another_one_refines_and_searches(
    detector: Detector, gpu_detector: Detector, hopper_bgr: np.ndarray
) -> None:
    boxes = np.array([[172, 110, 352, 337]], np.float32)
    for each in (detector, gpu_detector):
        scanned, refined = each.scan(hopper_bgr), each.refine(hopper_bgr, boxes)
        searched = each.search(hopper_bgr, boxes[0])
        with ThreadPool(1) as pool:
            scans = [pool.submit(each.scan, hopper_bgr) for _ in range(8)]
            while not scans[-1].done():
                assert_same(each.refine(hopper_bgr, boxes), refined)
                assert_same(each.search(hopper_bgr, boxes[0]), searched)
        for scan in scans:
            assert_same(scan.result(), scanned)


def test_an_unsplit_detector_finds_the_same_crowd_in_its_own_thread(monkeypatch, shared_data) -> None:
    frame = first_frame_of_the_street(shared_data)
    split = Detector("cpu", threads=2)
    expected = split.scan(frame)
    assert len(expected) >= 4
    monkeypatch.delattr(thread_pool, "ThreadPool")  # no other thread can start
    with pytest.raises(NameError):
        split.scan(frame)
    assert_same(split.unsplit().scan(frame), expected)


def test_a_gpu_finds_the_same_crowd(detector: Detector, gpu_detector: Detector, shared_data) -> None:
    frame = first_frame_of_the_street(shared_data)[200:800, 300:1500]
    found = detector.scan(frame)
    assert len(found) >= 2
    assert_same(gpu_detector.scan(frame), found)


def test_a_scan_that_knows_the_faces_finds_the_same_ones(detector: Detector, shared_data) -> None:
    frame = first_frame_of_the_street(shared_data)
    whole = detector.scan(frame)
    moved = whole.boxes_xyxy[::2] + 3  # every second face is known, and has moved a little
    found = detector.scan(frame, moved)
    assert len(found) == len(whole) >= 4
    assert (iou_matrix(whole.boxes_xyxy, found.boxes_xyxy).max(axis=1) > 0.6).all()


def test_a_search_finds_the_face_that_a_scan_finds(detector: Detector, hopper_bgr: np.ndarray) -> None:
    image = three_frames(hopper_bgr)[2]
    scanned = detector.scan(image)
    for box, score in zip(scanned.boxes_xyxy, scanned.scores, strict=True):
        away = np.array([0.4, -0.3, 0.4, -0.3], np.float32) * (box[2] - box[0])
        found = detector.search(image, box + away)
        assert len(found) == 1
        np.testing.assert_allclose(found.boxes_xyxy[0], box, atol=0.01)
        assert found.scores[0] == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize(
    "box", [(-90, -90, -20, -20), (600, 300, 700, 420), (900, 900, 950, 950), (5, 5, 6, 6)]
)
def test_a_search_without_a_face_finds_nothing(detector: Detector, box) -> None:
    blank = np.full((360, 640, 3), 120, np.uint8)
    assert len(detector.search(blank, np.array(box, np.float32))) == 0


@pytest.mark.parametrize(
    ("part", "size_wh"),
    [((0, 0, 307, 211), (92, 64)), ((33, 50, 180, 190), (92, 64)), ((100, 20, 140, 211), (31, 22))],
)
def test_a_part_has_the_pixels_of_the_whole_frame(part: tuple[int, ...], size_wh: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (211, 307, 3), np.uint8)
    whole = SummedPixels(picture).resized(size_wh)
    pixels, (column, row) = PartPixels(picture, np.array(part)).resized_part(size_wh, step=2)
    height, width = pixels.shape[2:]
    assert column % 2 == row % 2 == width % 2 == height % 2 == 0
    np.testing.assert_array_equal(pixels, whole[:, :, row : row + height, column : column + width])
    # Nothing that lies in the part is left out, except for one row or column because of the step.
    scales = np.array(size_wh) / (307, 211)
    covered = np.array([column, row, column + width, row + height])
    assert (np.abs(covered - np.array(part) * np.tile(scales, 2)) <= 2).all()


@pytest.mark.parametrize("part", [(0, 0, 2, 211), (300, 0, 307, 3), (0, 0, 1, 1)])
def test_a_part_that_is_too_small_has_no_face(part: tuple[int, ...]) -> None:
    picture = np.zeros((211, 307, 3), np.uint8)
    networks = CpuCascade()
    pixels = networks.read_part(picture, np.array(part))
    assert networks.p_net(pixels, [0.3, 0.1], lambda *_: None) == []


def test_reused_memory_holds_only_the_new_picture() -> None:
    first, second, smaller = (
        np.random.default_rng(seed).integers(0, 256, (side, 80, 3), np.uint8)
        for seed, side in enumerate((60, 60, 40))
    )
    pixels = SummedPixels(first)
    for picture in (second, smaller):
        pixels = SummedPixels(picture, reuse=pixels)
        np.testing.assert_array_equal(pixels.resized((30, 20)), SummedPixels(picture).resized((30, 20)))


def test_a_picture_that_is_summed_in_bands_is_read_as_a_whole_one(monkeypatch) -> None:
    from fer_stream.detection import bands

    monkeypatch.setattr(bands, "BAND_ROWS", 20)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (211, 307, 3), np.uint8)
    sizes_wh = [(307, 211), (92, 63), (13, 9)]
    strips = [[slice(0, 80), slice(70, 150), slice(140, 211)], [slice(0, 63)], [slice(0, 5), slice(4, 9)]]
    levels = [bands.Level((307, 211), *level) for level in zip(sizes_wh, strips, strict=True)]
    made: list[list[tuple[slice, np.ndarray]]] = [[] for _ in levels]
    for band in bands.BandedPixels(picture).bands(levels):
        assert band.bottom - band.top < 50  # a window of the last level is 25 rows long
        for level, strips_of_level in zip(levels, made, strict=True):
            strips_of_level += level.add(band)
    whole = SummedPixels(picture)
    for size_wh, expected, strips_of_level in zip(sizes_wh, strips, made, strict=True):
        assert [rows for rows, _ in strips_of_level] == expected
        for rows, reduced in strips_of_level:
            np.testing.assert_array_equal(reduced, whole.resized(size_wh, rows))


def test_a_picture_larger_than_4k_has_the_faces_of_one_that_is_summed_whole(
    monkeypatch, detector: Detector, hopper_bgr
) -> None:
    from fer_stream.detection import bands, cascade

    whole = detector.scan(hopper_bgr)
    monkeypatch.setattr(cascade, "LARGEST_SUMMED", 1000)
    monkeypatch.setattr(bands, "BAND_ROWS", 64)
    banded = detector.scan(hopper_bgr)
    assert len(whole) == 1
    np.testing.assert_allclose(banded.boxes_xyxy, whole.boxes_xyxy, atol=0.01)
    np.testing.assert_allclose(banded.scores, whole.scores, atol=1e-4)


@pytest.mark.parametrize("width", [330, 33_000])
def test_a_panorama_is_reduced_like_a_smaller_picture(width: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, width, 3), np.uint8)
    means = picture.reshape(40, 330, width // 330, 3).mean(axis=2)
    reduced = SummedPixels(picture).resized((330, 40))[0]
    np.testing.assert_allclose(reduced[::-1].transpose(1, 2, 0), (means - 127.5) / 128, atol=1e-5)


def test_strips_of_a_level_give_the_result_of_the_whole(monkeypatch, hopper_bgr) -> None:
    from fer_stream.detection import cascade

    networks = cascade.CpuCascade()
    levels: list[np.ndarray] = []

    def take(
        shifts: np.ndarray, probabilities: np.ndarray, _scale: float, before_xy: tuple[int, int]
    ) -> tuple[np.ndarray, int]:
        return np.concatenate([shifts, probabilities]), before_xy[1]

    for strip_pixels in (10**9, 40_000, 9_000):
        monkeypatch.setattr(cascade, "STRIP_PIXELS", strip_pixels)
        for height in (600, 599, 598, 597):
            pixels = networks.read(np.ascontiguousarray(hopper_bgr[:height]), cascade.Use.SCAN)
            (strips,) = networks.p_net(pixels, [0.6], take)
            ends = np.cumsum([0, *(maps.shape[1] for maps, _ in strips)])
            assert [above for _, above in strips] == list(ends[:-1])
            levels.append(np.concatenate([maps for maps, _ in strips], axis=1))
    for whole, first, second in zip(levels[:4], levels[4:8], levels[8:], strict=True):
        np.testing.assert_allclose(first, whole, atol=2e-5)
        np.testing.assert_allclose(second, whole, atol=2e-5)


@pytest.mark.parametrize(
    "square",
    [
        (10, 20, 40, 50),
        (-5.5, 3.2, 130.7, 139.4),
        (30, 10, 930, 910),  # too large for an integral image
        (-900, 100, 30, 1030),  # large, and all but a strip at the left is outside
        (1180, -200, 2400, 1020),
        (40, 985, 1140, 2085),
        (1300, 1300, 1400, 1400),  # outside
    ],
)
@pytest.mark.parametrize("size", [24, 48])
def test_a_followed_face_gets_the_crop_that_a_scan_gives_it(square: tuple[float, ...], size: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1000, 1200, 3), np.uint8)
    squares = np.array([square, (100, 100, 200, 200)], np.float32)
    followed = SquarePixels(picture).crops(squares, size)
    np.testing.assert_array_equal(followed, SummedPixels(picture).crops(squares, size))
