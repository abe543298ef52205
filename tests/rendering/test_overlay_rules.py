"""The rules of the overlay's placement, over random layouts, random walks, and a crowd in a street."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from helpers.faces import blank_frame, face_at
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_stream.expressions import EXPRESSIONS, UNSURE, color_bgr
from fer_stream.rendering.overlay import Overlay
from fer_stream.rendering.overlay.drawing import text_width_px
from fer_stream.rendering.overlay.geometry import Rect
from fer_stream.rendering.overlay.layout import Layout
from fer_stream.rendering.overlay.parts import Level, PlacedFace, tag_text
from fer_stream.types import AnalyzedFrame, Frame

SIZES_WH = [(320, 240), (640, 360), (720, 1280), (1920, 1080), (3840, 2160)]


def assert_rules_hold(placed: tuple[PlacedFace, ...], size_wh) -> None:
    view = Rect(0, 0, *size_wh)
    for at, face in enumerate(placed):
        others = [other for index, other in enumerate(placed) if index != at]
        if face.tag:
            tag = face.tag.rect
            assert tag.inside(view)
            assert tag.distance_px(face.box) == 0, "a tag touches its face's box"
            covered_px, box_px = tag.overlap_px(face.box), face.box.width * face.box.height
            assert covered_px <= 0.4 * box_px, "a tag does not hide its own face"
            for other in others:
                assert tag.center_distance_px(face.box) <= tag.center_distance_px(other.box)
                assert other.tag is None or tag.overlap_px(other.tag.rect) == 0
        if face.panel:
            panel = face.panel.rect
            assert panel.inside(view)
            assert all(panel.overlap_px(other.box) == 0 for other in others)
            for other in others:
                assert panel.distance_px(face.box) <= panel.distance_px(other.box)
            if face.panel.style.level is Level.MINI:
                assert panel.distance_px(face.box) == 0, "bars without names touch their face's box"


def side_of_tag(face: PlacedFace) -> str:
    is_outside = face.box.width == 0 or face.box.height == 0  # the face has left the frame
    if face.tag is None or is_outside or face.tag.rect.overlap_px(face.box):
        return ""
    tag, box = face.tag.rect, face.box
    if tag.bottom <= box.top or tag.top >= box.bottom:
        return "above" if tag.top < box.top else "below"
    return "left" if tag.left < box.left else "right"


def sides_by_id(placed: tuple[PlacedFace, ...]) -> dict[int, str]:
    return {face.face.id: side_of_tag(face) for face in placed}


def assert_no_tag_hops(frames: list[tuple[PlacedFace, ...]]) -> None:
    """Check that no tag switches sides from one frame to the next, or twice within a second."""
    for before, after in pairwise(map(sides_by_id, frames)):
        for face_id in before.keys() & after.keys():
            assert "" in (before[face_id], after[face_id]) or before[face_id] == after[face_id]
    for face_id in {face.face.id for placed in frames for face in placed}:
        sides = [(index, sides_by_id(placed).get(face_id)) for index, placed in enumerate(frames)]
        known = [(index, side) for index, side in sides if side]
        turns = [index for (_, a), (index, b) in pairwise(known) if a != b]
        assert all(later - earlier >= 25 for earlier, later in pairwise(turns))


@st.composite
def crowds(draw, most: int = 12):
    """Draw a frame size and boxes of faces in it, which may be crowded and overlap."""
    width, height = size_wh = draw(st.sampled_from(SIZES_WH))
    unit = min(size_wh)
    boxes = []
    for _ in range(draw(st.integers(1, most))):
        side = draw(st.floats(0.03, 0.5)) * unit
        x, y = draw(st.floats(-0.05, 1)) * width, draw(st.floats(-0.05, 1)) * height
        boxes.append((x, y, x + 0.8 * side, y + side))
    return size_wh, boxes


@given(crowds(), st.data())
@settings(max_examples=150, deadline=None)
def test_the_rules_hold_in_any_picture(crowd, data):
    size_wh, boxes = crowd
    faces = [
        face_at(index + 1, box, data.draw(st.sampled_from(EXPRESSIONS)), data.draw(st.floats(0.2, 1)))
        for index, box in enumerate(boxes)
    ]
    assert_rules_hold(Layout(text_width_px).arrange(blank_frame(size_wh, faces)), size_wh)


@given(crowds(most=6), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_the_rules_hold_while_people_walk_and_tags_never_hop(crowd, seed):
    size_wh, boxes = crowd
    random = np.random.default_rng(seed)
    speeds = random.normal(0, 0.01 * min(size_wh), (len(boxes), 2))
    layout, frames = Layout(text_width_px), []
    for index in range(60):
        faces = []
        for at, box in enumerate(boxes):
            if random.random() < 0.05:
                continue  # a face that is missed for a frame
            moved = np.array(box) + np.tile(index * speeds[at], 2) + random.normal(0, 1.5, 4)
            faces.append(face_at(at + 1, moved, confidence=float(random.choice([0.3, 0.87]))))
        placed = layout.arrange(blank_frame(size_wh, faces, index))
        assert_rules_hold(placed, size_wh)
        frames.append(placed)
    assert_no_tag_hops(frames)


def test_the_rules_hold_in_a_crowd_in_a_street(street):
    for placed in street:
        assert_rules_hold(placed, (1920, 1080))
    assert_no_tag_hops(street)
    assert all(any(face.tag for face in placed) for placed in street)
    assert all(any(face.panel for face in placed) for placed in street)


def test_nearly_every_face_of_a_crowd_has_its_tag_and_few_tags_move(street):
    tags = [face.tag for placed in street for face in placed]
    assert sum(tag is not None for tag in tags) > 0.97 * len(tags)
    moves = 0
    for before, after in pairwise(map(sides_by_id, street)):
        moves += sum(before[face_id] != after[face_id] for face_id in before.keys() & after.keys())
    assert moves <= 10, "in 4 s with a dozen people"


def test_a_tag_between_two_faces_belongs_to_the_nearer_one():
    # A wide tag above the small left face would reach over to the large one beside it.
    faces = [face_at(1, (300, 300, 340, 350), "surprise"), face_at(2, (350, 250, 450, 380), "neutral")]
    placed = Layout(text_width_px).arrange(blank_frame((1280, 720), faces))
    assert placed[0].tag is not None and placed[1].tag is not None
    assert_rules_hold(placed, (1280, 720))
    assert placed[0].tag.rect.overlap_px(placed[1].box) == 0


def test_a_tag_is_close_to_another_face_only_if_no_other_place_is_free():
    # Above the face in the middle, the tag would be as close to the top of a neighbour as to its own box.
    faces = [
        face_at(1, (600, 300, 640, 350)),
        face_at(2, (530, 302, 570, 330)),
        face_at(3, (670, 302, 710, 330)),
    ]
    placed = Layout(text_width_px).arrange(blank_frame((1280, 720), faces))
    assert_rules_hold(placed, (1280, 720))
    assert side_of_tag(placed[0]) == "below"
    assert all(placed[0].tag.rect.distance_px(face.box) >= 8 for face in placed[1:])


def test_a_tag_is_close_to_another_face_rather_than_left_out():
    # There is no room below the faces or between them, and the box is too small for a tag inside.
    faces = [
        face_at(1, (600, 680, 640, 720)),
        face_at(2, (530, 682, 580, 720)),
        face_at(3, (660, 682, 710, 720)),
    ]
    placed = Layout(text_width_px).arrange(blank_frame((1280, 720), faces))
    assert_rules_hold(placed, (1280, 720))
    assert side_of_tag(placed[0]) == "above"
    assert min(placed[0].tag.rect.distance_px(face.box) for face in placed[1:]) < 8


def test_a_tag_does_not_leave_its_box_for_a_place_close_to_another_face():
    face, above = face_at(1, (600, 590, 730, 715)), face_at(2, (600, 480, 730, 586))
    neighbours = [face_at(3, (560, 590, 596, 650)), face_at(4, (734, 590, 770, 650))]
    layout = Layout(text_width_px)
    for index in range(75):
        faces = [face, *neighbours, *([above] if index < 25 else [])]
        placed = layout.arrange(blank_frame((1280, 720), faces, index))
        assert placed[0].tag is not None
        assert placed[0].tag.rect.inside(placed[0].box)


def test_a_face_without_room_for_its_tag_loses_its_bars_too():
    # Above the face in the corner there is room for bars, but a tag is wider and would cover the other face.
    corner, other = face_at(1, (1250, 670, 1280, 720)), face_at(2, (1150, 630, 1200, 690))
    alone = Layout(text_width_px).arrange(blank_frame((1280, 720), [corner]))[0]
    assert alone.tag is not None and alone.panel is not None
    placed = Layout(text_width_px).arrange(blank_frame((1280, 720), [corner, other]))
    assert placed[0].tag is None and placed[0].panel is None
    assert placed[1].tag is not None and placed[1].panel is not None

    layout = Layout(text_width_px)
    for index in range(60):
        faces = [corner] if index < 25 else [corner, other]
        placed = layout.arrange(blank_frame((1280, 720), faces, index))
    assert placed[0].tag is None and placed[0].panel is None


def test_the_bars_stay_while_the_tag_changes_sides():
    face, other = face_at(1, (200, 300, 240, 350)), face_at(2, (180, 230, 240, 298))
    layout, sides = Layout(text_width_px), []
    for index in range(60):
        faces = [face] if index < 30 else [face, other]
        placed = layout.arrange(blank_frame((1280, 720), faces, index))[0]
        sides.append(side_of_tag(placed))
        assert placed.panel is not None
    assert sides[29] == "above" and sides[30] == "" and sides[-1] == "below"


def test_the_tag_of_a_tiny_face_is_beside_it_where_no_other_place_is_free():
    # At the upper edge of the frame, above another tiny face. Inside its box, the tag would hide it.
    faces = [face_at(1, (310, 1, 320, 13)), face_at(2, (310, 15, 320, 27))]
    placed = Layout(text_width_px).arrange(blank_frame((640, 360), faces))
    assert_rules_hold(placed, (640, 360))
    assert [side_of_tag(face) for face in placed] == ["right", "below"]


def test_a_tag_beside_its_face_returns_to_the_top_when_the_others_have_left():
    layout, frames = Layout(text_width_px), []
    for index in range(100):
        faces = [face_at(1, (310, 1, 320, 13) if index < 25 else (310, 60, 320, 72))]
        if index < 25:
            faces.append(face_at(2, (310, 15, 320, 27)))
        frames.append(layout.arrange(blank_frame((640, 360), faces, index)))
    assert_no_tag_hops(frames)
    assert [side_of_tag(frames[index][0]) for index in (20, 40, 99)] == ["right", "right", "above"]


def test_a_larger_panel_is_tied_to_its_face():
    placed = Layout(text_width_px).arrange(blank_frame((1280, 720), [face_at(1, (500, 200, 700, 460))]))
    panel = placed[0].panel
    assert panel is not None and panel.tie is not None
    assert panel.tie.distance_px(placed[0].box) == 0 and panel.tie.distance_px(panel.rect) == 0


def test_a_tag_of_100_percent_leaves_room_for_the_id():
    for confidence in (0.87, 1.0):
        face = face_at(1, (500, 200, 700, 460), "happy", confidence)
        tag = Layout(text_width_px).arrange(blank_frame((1280, 720), [face]))[0].tag
        assert tag is not None and tag.shows_id
        words_px = text_width_px(tag_text(face), tag.text_px, 600) + text_width_px("1", tag.text_px, 400)
        assert tag.rect.width >= words_px + 2 * tag.padding + tag.text_px // 3


def test_an_unsure_face_has_a_grey_tag_and_keeps_its_bars():
    sure = face_at(1, (500, 200, 700, 460), "sad", 0.87)
    unsure = replace(sure, unsure=True)
    assert tag_text(unsure) == UNSURE
    plain = np.full((720, 1280, 3), 120, np.uint8)
    images, panels = [], []
    for face in (sure, unsure):
        analyzed = AnalyzedFrame(Frame(plain, 0, 0.0), (face,))
        images.append(Overlay().annotate(analyzed))
        placed = Layout(text_width_px).arrange(analyzed)[0]
        assert placed.tag and placed.panel
        panels.append(placed.panel.rect)
        tag = placed.tag.rect
        shown = images[-1][tag.top : tag.bottom, tag.left : tag.right].astype(int)
        is_blue = (np.abs(shown - color_bgr("sad")) < 12).all(axis=2).mean() > 0.4
        assert is_blue == (face is sure)
    assert panels[0] == panels[1]
    panel = images[1][panels[1].top : panels[1].bottom, panels[1].left : panels[1].right]
    assert (panel == color_bgr("sad")).all(axis=2).any(), "the bars stay"
