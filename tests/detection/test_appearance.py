"""Looks tell people apart by their colours, whatever the size of the face."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fer_stream.detection.appearance import appearance, likeness

BOX = np.array([80, 60, 120, 110], np.float32)


def person(coat_bgr: tuple[int, int, int], hair_bgr: tuple[int, int, int] = (30, 40, 60)) -> np.ndarray:
    picture = np.full((240, 200, 3), 120, np.uint8)
    cv2.circle(picture, (100, 75), 38, hair_bgr, -1)
    cv2.circle(picture, (100, 88), 25, (140, 160, 210), -1)
    cv2.rectangle(picture, (55, 120), (145, 239), coat_bgr, -1)
    noise = np.random.default_rng(1).normal(0, 6, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def test_the_same_person_looks_alike_in_another_size_and_light() -> None:
    picture = person((40, 40, 160))
    looks = appearance(picture, BOX)
    assert looks.shape == (96,) and looks.dtype == np.float32
    assert np.linalg.norm(looks) == pytest.approx(1)
    larger = cv2.resize(picture, None, fx=1.7, fy=1.7)
    assert likeness([looks], [appearance(larger, BOX * 1.7)]) > 0.97
    brighter = np.clip(picture * 1.08, 0, 255).astype(np.uint8)
    assert likeness([looks], [appearance(brighter, BOX)]) > 0.93


def test_another_coat_is_another_person() -> None:
    looks = appearance(person((40, 40, 160)), BOX)
    assert likeness([looks], [appearance(person((120, 60, 40)), BOX)]) < 0.9
    assert likeness([looks], [appearance(person((40, 40, 160), (90, 190, 230)), BOX)]) < 0.95


@pytest.mark.parametrize(
    ("one_bgr", "other_bgr"),
    [((60, 110, 60), (40, 40, 160)), ((20, 20, 20), (70, 70, 70)), ((20, 20, 20), (130, 105, 95))],
    ids=["green and red", "black and dark grey", "black and blue-grey"],
)
def test_dark_green_and_blue_coats_are_told_apart(
    one_bgr: tuple[int, int, int], other_bgr: tuple[int, int, int]
) -> None:
    one, other = (appearance(person(coat), BOX) for coat in (one_bgr, other_bgr))
    assert likeness([one], [other]) < 0.85


@pytest.mark.parametrize(
    "box", [(-30, -30, 10, 12), (180, 200, 230, 260), (0, 0, 200, 240), (500, 500, 540, 550)]
)
def test_a_face_at_the_border_or_outside_does_no_harm(box: tuple[int, ...]) -> None:
    looks = appearance(person((40, 40, 160)), np.array(box, np.float32))
    assert np.isfinite(looks).all()
    assert 0 <= likeness([looks], [looks]) <= 1 + 1e-5
