"""The overlay as a viewer sees it: its parts are well placed, steady and readable."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from helpers.faces import blank_frame, face_at

from fer_stream.expressions import COLORS_RGB, EXPRESSIONS, color_bgr
from fer_stream.rendering.overlay import Overlay
from fer_stream.rendering.overlay.drawing import text_width_px
from fer_stream.rendering.overlay.geometry import Rect
from fer_stream.rendering.overlay.layout import Layout
from fer_stream.rendering.overlay.parts import REGULAR, Level, PlacedFace
from fer_stream.types import Face
from fer_stream.words import percent

SIZES_WH = [(320, 240), (640, 360), (720, 1280), (1280, 720), (1920, 1080), (3840, 2160)]


def grid_of_faces(size_wh, columns: int, rows: int, height_px: float) -> list[Face]:
    width, height = size_wh
    faces = []
    for index in range(columns * rows):
        x = width * (index % columns + 0.5) / columns
        y = height * (index // columns + 0.5) / rows
        box = (x - 0.4 * height_px, y - height_px / 2, x + 0.4 * height_px, y + height_px / 2)
        faces.append(face_at(index + 1, box, EXPRESSIONS[index % 7]))
    return faces


def place(size_wh, faces) -> tuple[PlacedFace, ...]:
    return Layout(text_width_px).arrange(blank_frame(size_wh, faces))


def assert_nothing_collides(placed: tuple[PlacedFace, ...], size_wh) -> None:
    view = Rect(0, 0, *size_wh)
    boxes = [face.box for face in placed]
    tags = [face.tag.rect for face in placed if face.tag]
    panels = [face.panel.rect for face in placed if face.panel]
    for panel in panels:
        assert panel.inside(view)
        assert all(panel.overlap_px(box) == 0 for box in boxes)
        assert all(panel.overlap_px(tag) == 0 for tag in tags)
    for parts in (tags, panels):
        for at, part in enumerate(parts):
            assert part.inside(view)
            assert all(part.overlap_px(other) == 0 for other in parts[at + 1 :])


@pytest.mark.parametrize("size_wh", SIZES_WH)
@pytest.mark.parametrize("x", [0.0, 0.3, 0.65])
@pytest.mark.parametrize("y", [0.0, 0.35, 0.6])
def test_bars_find_a_place_beside_a_face_wherever_it_is(size_wh, x, y):
    width, height = size_wh
    side = 0.35 * min(size_wh)
    left, top = x * width, y * height
    size = min(side, width - left), min(1.2 * side, height - top)
    placed = place(size_wh, [face_at(1, (left, top, left + size[0], top + size[1]))])
    assert placed[0].panel is not None
    assert placed[0].panel.style.level >= Level.COMPACT
    assert_nothing_collides(placed, size_wh)


@pytest.mark.parametrize("size_wh", SIZES_WH)
def test_ten_faces_have_labels_and_bars_that_cover_nobody(size_wh):
    portrait = size_wh[0] < size_wh[1]
    columns, rows = (2, 5) if portrait else (5, 2)
    faces = grid_of_faces(size_wh, columns, rows, 0.2 * min(size_wh))
    placed = place(size_wh, faces)
    assert all(face.tag for face in placed)
    assert_nothing_collides(placed, size_wh)
    least = 10 if min(size_wh) >= 360 else 1
    assert sum(face.panel is not None for face in placed) >= least


def test_a_crowd_gets_smaller_panels_than_a_single_face():
    size_wh = (1280, 720)
    faces = grid_of_faces(size_wh, 5, 2, 150)
    alone, crowd = place(size_wh, faces[:1]), place(size_wh, faces)
    assert alone[0].panel.style.level is Level.FULL
    assert all(face.panel.style.level < Level.FULL for face in crowd)


def test_a_face_that_fills_the_frame_keeps_its_eyes_free():
    placed = place((640, 360), [face_at(1, (5, 2, 635, 358))])
    assert placed[0].panel is not None
    assert placed[0].panel.rect.top > 0.75 * 360
    assert placed[0].tag.rect.bottom < 0.15 * 360


def test_a_panel_that_loses_its_place_for_a_moment_does_not_jump_onto_the_face():
    layout = Layout(text_width_px)
    with_room, without_room = face_at(1, (300, 60, 420, 200)), face_at(1, (5, 2, 635, 358))
    assert layout.arrange(blank_frame((640, 360), [with_room], 0))[0].panel.style.level is Level.FULL
    panels = [
        layout.arrange(blank_frame((640, 360), [without_room], index))[0].panel for index in range(1, 30)
    ]
    assert panels[0] is None
    assert panels[-1].style.level is Level.MINI  # it has waited long enough


def test_sizes_grow_with_the_frame():
    def sizes(size_wh):
        width, height = size_wh
        box = (0.4 * width, 0.3 * height, 0.55 * width, 0.7 * height)
        face = place(size_wh, [face_at(1, box)])[0]
        return face.tag.text_px, face.panel.rect.width, face.line_px

    small, medium, large = sizes((640, 360)), sizes((1280, 720)), sizes((3840, 2160))
    assert all(a <= b <= c for a, b, c in zip(small, medium, large, strict=True))
    assert large[0] == pytest.approx(3 * medium[0], abs=1)
    assert large[1] == pytest.approx(3 * medium[1], rel=0.05)
    assert small[0] >= 10, "text stays legible in a small frame"


@pytest.mark.parametrize("size_wh", SIZES_WH)
@pytest.mark.parametrize("height_share", [0.1, 0.3, 0.6, 0.9])
def test_the_text_of_a_tag_is_not_smaller_than_that_of_its_panel(size_wh, height_share):
    side = height_share * min(size_wh)
    placed = place(size_wh, [face_at(1, (20, 20, 20 + 0.8 * side, 20 + side))])
    assert placed[0].tag is not None
    if placed[0].panel is not None:
        assert placed[0].tag.text_px >= placed[0].panel.style.text_px


def follow(path, frames: int = 120, others=(), size_wh=(1280, 720)):
    """Move a face along a path, with a detector's jitter, and yield its placements."""
    layout, noise = Layout(text_width_px), np.random.default_rng(0)
    for index in range(frames):
        box = np.array(path(index), float) + noise.normal(0, 1.0, 4)
        faces = [face_at(1, box), *others]
        yield layout.arrange(blank_frame(size_wh, faces, index))


def side_of(face: PlacedFace) -> str:
    if face.panel.rect.left >= face.box.right:
        return "right"
    return "left" if face.panel.rect.right <= face.box.left else "other"


def test_the_panel_keeps_its_side_and_stays_still_while_a_face_trembles():
    placed = [faces[0] for faces in follow(lambda i: (540, 220, 740, 480))]
    assert len({side_of(face) for face in placed}) == 1
    steps = [math.dist(a.panel.rect[:2], b.panel.rect[:2]) for a, b in pairwise(placed)]
    assert max(steps) <= 2
    assert len({face.panel.style.size_wh for face in placed}) == 1


def test_the_panel_keeps_its_side_while_a_face_drifts_to_and_fro():
    def path(index):
        x = 540 + 220 * math.sin(index / 20)
        return (x, 220, x + 200, 480)

    placed = list(follow(path))
    assert len({side_of(faces[0]) for faces in placed}) == 1
    for faces in placed:
        assert_nothing_collides(faces, (1280, 720))
        # It follows. At 11 px per frame, the face's highest speed, it may lag by a few frames.
        assert faces[0].panel.rect.left - faces[0].box.right <= 8 + 4 * 11
    assert max(math.dist(a[0].panel.rect[:2], b[0].panel.rect[:2]) for a, b in pairwise(placed)) <= 18


def test_the_panel_changes_sides_once_when_the_face_walks_to_the_edge():
    placed = list(follow(lambda i: (300 + 6 * i, 220, 500 + 6 * i, 480), frames=125))
    sides = [side_of(faces[0]) for faces in placed]
    assert sum(a != b for a, b in pairwise(sides)) == 1
    for faces in placed:
        assert_nothing_collides(faces, (1280, 720))
    turn = next(index for index, (a, b) in enumerate(pairwise(sides)) if a != b)
    opacities = [faces[0].panel.opacity for faces in placed]
    assert opacities[turn] == 1.0 and opacities[turn + 1] < 0.5 and opacities[turn + 10] == 1.0


def test_a_moving_face_never_walks_under_another_ones_bars():
    other = face_at(2, (560, 220, 740, 460), "sad")
    with_bars = [0, 0]
    for faces in follow(lambda i: (40 + 6 * i, 180, 200 + 6 * i, 400), frames=150, others=[other]):
        for at, (face, another) in enumerate((faces, faces[::-1])):
            if face.panel:
                with_bars[at] += 1
                assert face.panel.rect.overlap_px(another.box) == 0
    assert min(with_bars) > 75, "each has its bars in more than half of the 150 frames"


def test_labels_of_two_faces_that_pass_each_other_stay_apart():
    layout, apart = Layout(text_width_px), 0
    for index in range(100):
        x = 200 + 8 * index
        faces = [
            face_at(1, (x, 300, x + 60, 375)),
            face_at(2, (1060 - x, 310, 1120 - x, 385), "surprise"),
        ]
        placed = layout.arrange(blank_frame((1280, 720), faces, index))
        assert placed[0].tag.rect.overlap_px(placed[1].tag.rect) == 0
        if placed[0].box.overlap_px(placed[1].box) == 0:
            apart += 1
            assert placed[0].tag.rect.overlap_px(placed[1].box) == 0
            assert placed[1].tag.rect.overlap_px(placed[0].box) == 0
    assert apart > 80


def test_a_face_that_is_back_soon_finds_its_panel_on_the_old_side():
    layout = Layout(text_width_px)
    blocker = face_at(2, (760, 200, 960, 460))
    face = face_at(1, (540, 220, 740, 480))

    def side(faces, time_s):
        return side_of(layout.arrange(blank_frame((1280, 720), faces, round(time_s * 25)))[0])

    assert side([face, blocker], 0.0) == "left"
    assert side([face], 0.1) == "left"
    layout.arrange(blank_frame((1280, 720), [], 5))
    assert side([face], 0.8) == "left"
    layout.arrange(blank_frame((1280, 720), [], 75))
    assert side([face], 3.1) == "right", "gone for long: a fresh start"


def test_pictures_of_a_folder_do_not_influence_each_other():
    overlay = Overlay()
    first = blank_frame((640, 360), [face_at(1, (300, 80, 420, 240))])
    overlay.annotate(
        blank_frame((640, 360), [face_at(1, (20, 80, 140, 240)), face_at(2, (430, 80, 560, 240))])
    )
    assert np.array_equal(overlay.annotate(first), Overlay().annotate(first))


def test_annotate_leaves_the_frame_alone_and_marks_the_face_in_its_colour():
    analyzed = blank_frame((1280, 720), [face_at(1, (500, 200, 700, 460), "sad")])
    before = analyzed.frame.bgr.copy()
    image = Overlay().annotate(analyzed)
    assert np.array_equal(analyzed.frame.bgr, before)
    assert image.shape == before.shape and image.dtype == np.uint8
    assert not np.shares_memory(image, analyzed.frame.bgr)
    # Corner, label and the longest bar.
    assert np.count_nonzero((image == color_bgr("sad")).all(axis=2)) > 500
    # The face itself can be seen.
    assert np.array_equal(image[220:440, 520:680], before[220:440, 520:680])


@pytest.mark.parametrize("size_wh", [(640, 360), (1920, 1080), (3840, 2160)])
def test_the_box_of_a_small_face_leaves_most_of_the_face_visible(size_wh):
    x, y = size_wh[0] // 2, size_wh[1] // 2
    analyzed = blank_frame(size_wh, [face_at(1, (x, y, x + 16, y + 20))])
    changed = (Overlay(show_bars=False).annotate(analyzed) != analyzed.frame.bgr).any(axis=2)
    assert 0.1 < changed[y : y + 20, x : x + 16].mean() < 0.4


def test_a_frame_without_faces_is_an_exact_copy():
    analyzed = blank_frame((64, 48), [])
    assert np.array_equal(Overlay().annotate(analyzed), analyzed.frame.bgr)


def test_bars_are_as_long_as_their_probabilities():
    def lengths(confidence):
        face = face_at(1, (500, 200, 700, 460), "surprise", confidence)
        analyzed = blank_frame((1280, 720), [face])
        panel = Layout(text_width_px).arrange(analyzed)[0].panel.rect
        image = Overlay().annotate(analyzed)[panel.top : panel.bottom, panel.left : panel.right]
        return (image == color_bgr("surprise")).all(axis=2).sum(axis=1).max()

    assert lengths(0.9) == pytest.approx(2 * lengths(0.45), abs=3)


def test_without_bars_only_box_and_label_are_drawn():
    analyzed = blank_frame((1280, 720), [face_at(1, (500, 200, 700, 460))])
    changed = (Overlay(show_bars=False).annotate(analyzed) != analyzed.frame.bgr).any(axis=2)
    assert changed.any()
    assert not changed[:, 720:].any() and not changed[:, :480].any()


def test_the_bars_of_a_small_face_grow_to_the_right_in_the_order_of_the_larger_panels():
    def bars(height_px: int) -> tuple[Level, list[tuple[str, int]]]:
        """Return the level of a face's panel, and the name and length of each visible bar, from the top."""
        face = face_at(1, (500, 200, 500 + 0.8 * height_px, 200 + height_px), "surprise")
        shares = np.array([0.2, 0.0, 0.2, 0.0, 0.0, 0.0, 0.6], np.float32)
        analyzed = blank_frame((1280, 720), [replace(face, probabilities=shares)])
        panel = Layout(text_width_px).arrange(analyzed)[0].panel
        image = Overlay().annotate(analyzed)[panel.rect.top : panel.rect.bottom]
        image = image[:, panel.rect.left : panel.rect.right]
        shown = []
        for name in EXPRESSIONS:
            rows, columns = np.nonzero((image == color_bgr(name)).all(axis=2))
            if rows.size:
                shown.append((rows.mean(), name, int(np.ptp(columns)) + 1))
        return panel.style.level, [(name, length) for _, name, length in sorted(shown)]

    (small, small_bars), (large, large_bars) = bars(24), bars(300)
    assert small is Level.MINI and large is Level.FULL
    names = ["angry", "fear", "surprise"]
    assert [name for name, _ in small_bars] == [name for name, _ in large_bars] == names
    for shown in (small_bars, large_bars):
        assert shown[2][1] == pytest.approx(3 * shown[0][1], abs=3)


def contrasts_in(image: np.ndarray) -> np.ndarray:
    """Return the contrast ratio of each pixel of a plate with the plate's own colour."""
    image = image / 255.0
    linear = np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.0722, 0.7152, 0.2126]
    plate = np.median(luminance)
    contrasts = np.maximum(luminance + 0.05, plate + 0.05) / np.minimum(luminance + 0.05, plate + 0.05)
    return contrasts[2:-2, 2:-2]


@pytest.mark.parametrize("shade", [0, 128, 255])
@pytest.mark.parametrize("confidence", [0.87, 0.3])
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_label_and_the_id_are_readable_on_every_background(shade, confidence, expression):
    face = face_at(88, (250, 120, 380, 300), expression, confidence)
    analyzed = blank_frame((640, 360), [face], shade=shade)
    tag = Layout(text_width_px).arrange(analyzed)[0].tag
    image = Overlay().annotate(analyzed)[tag.rect.top : tag.rect.bottom, tag.rect.left : tag.rect.right]
    id_px = text_width_px("88", tag.text_px, REGULAR) + tag.padding
    for part in (image[:, :-id_px], image[:, -id_px:]):
        assert np.percentile(contrasts_in(part), 97) > 4.5 * 0.9


@pytest.mark.parametrize("size_wh", [(2, 2), (3, 40), (40, 3), (16, 16), (64, 48), (120, 90)])
@pytest.mark.parametrize(
    "box",
    [(0, 0, 2, 2), (0, 0, 0, 0), (1, 1, 1, 2), (-50, -50, 500, 500), (0, 0, 1000, 1), (math.nan, 0, 2, 2)],
)
def test_tiny_frames_and_degenerate_boxes_are_drawn_without_an_exception(size_wh, box):
    analyzed = blank_frame(size_wh, [face_at(1, box), face_at(2, (0, 0, *size_wh))])
    assert Overlay().annotate(analyzed).shape == analyzed.frame.bgr.shape


@pytest.mark.parametrize("box", [(-20, -20, 100, 120), (1200, 640, 1400, 900), (1279, 719, 1280, 720)])
def test_boxes_at_the_border_keep_their_label_in_the_frame(box):
    placed = place((1280, 720), [face_at(1, box)])
    assert placed[0].tag.rect.inside(Rect(0, 0, 1280, 720))
    Overlay().annotate(blank_frame((1280, 720), [face_at(1, box)]))


def test_percentages_never_overstate():
    assert [percent(value) for value in (0.0, 0.004, 0.125, 0.874, 0.996, 0.9997, 1.0)] == [
        0, 0, 13, 87, 99, 100, 100,
    ]  # fmt: skip


def test_no_percentage_of_an_unsure_face_reaches_the_threshold():
    assert [percent(value, unsure=True) for value in (0.7176, 0.7199, 0.125)] == [71, 71, 12]


def test_every_expression_has_its_own_colour():
    assert set(COLORS_RGB) == set(EXPRESSIONS)
    assert len(set(COLORS_RGB.values())) == len(EXPRESSIONS)
