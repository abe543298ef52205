"""The path from pixels to the network's input is exact, smooth, and the same in training and streaming."""

from __future__ import annotations

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest
from helpers.checkpoints import INPUT
from PIL import Image

from fer_stream.recognition import preprocessing
from fer_stream.recognition.preprocessing import (
    cut,
    face_roll,
    face_square,
    network_input,
    whole_image,
)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def blurred_dot(x: float, y: float, size: int = 96, sigma: float = 6.0) -> np.ndarray:
    """Return a picture of a soft bright dot whose centre is at x, y in continuous coordinates."""
    axis = np.arange(size) + 0.5
    dot = np.exp(-((axis[None] - x) ** 2 + (axis[:, None] - y) ** 2) / (2 * sigma**2))
    return np.repeat(np.round(255 * dot)[:, :, None], 3, axis=2).astype(np.uint8)


def center_of_light(image: np.ndarray) -> tuple[float, float]:
    light = image[:, :, 0].astype(np.float64)
    axis = np.arange(len(light)) + 0.5
    return float((light.sum(axis=0) * axis).sum() / light.sum()), float(
        (light.sum(axis=1) * axis).sum() / light.sum()
    )


def test_the_whole_picture_at_its_own_size_comes_back_exactly():
    image = noise(48, 48)
    assert np.array_equal(cut(image, whole_image(image), 48), image)


def test_a_square_on_whole_pixels_is_a_slice():
    image = noise(120, 160)
    assert np.array_equal(cut(image, np.array([30, 20, 78, 68]), 48), image[20:68, 30:78])


@pytest.mark.parametrize("shift_px", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("side", [40.0, 48.0, 70.0])
def test_a_shift_by_a_fraction_of_a_pixel_moves_the_content_by_it(shift_px, side):
    image = blurred_dot(48, 48)
    square = np.array([48 - side / 2, 48 - side / 2, 48 + side / 2, 48 + side / 2])
    before = center_of_light(cut(image, square, 48))
    after = center_of_light(cut(image, square + np.array([shift_px, 0, shift_px, 0]), 48))
    assert before == pytest.approx((24, 24), abs=0.05)
    assert before[0] - after[0] == pytest.approx(shift_px * 48 / side, abs=0.06)
    assert after[1] == pytest.approx(before[1], abs=0.02)


def test_a_slowly_moving_large_square_does_not_jump():
    image = cv2.GaussianBlur(noise(700, 700), (0, 0), 4)
    crops = [
        cut(image, np.array([100 + x, 100, 400 + x, 400]), 48).astype(float) for x in np.arange(0, 8, 0.25)
    ]
    steps = [np.abs(a - b).mean() for a, b in itertools.pairwise(crops)]
    assert max(steps) < 4 * np.median(steps) + 0.5


def test_a_large_face_does_not_alias():
    # A checkerboard of single pixels is grey from afar; sampling it would give black, white or stripes.
    checks = np.indices((480, 480)).sum(axis=0) % 2 * 255
    image = np.repeat(checks[:, :, None], 3, axis=2).astype(np.uint8)
    crop = cut(image, np.array([3.3, 1.7, 459.3, 457.7]), 48)
    assert np.abs(crop.astype(int) - 127.5).max() < 30
    assert crop.std() < 12


@pytest.mark.parametrize("side", [48, 300])
def test_the_border_is_repeated_outside_the_picture(side):
    image = np.zeros((400, 400, 3), np.uint8)
    image[:, :200], image[:, 200:] = (10, 20, 30), (200, 210, 220)
    crop = cut(image, np.array([400 - side / 2, 100, 400 + side / 2, 100 + side]), 48)
    assert (crop == (200, 210, 220)).all()
    crop = cut(image, np.array([-side, -side, 0, 0]), 48)
    assert (crop == (10, 20, 30)).all()
    assert cut(image, np.array([5000, 5000, 5000 + side, 5000 + side]), 48).shape == (48, 48, 3)


@pytest.mark.parametrize("place", [(10, 20), (-500.5, 300), (1190, 995), (5000, 5000)])
@pytest.mark.parametrize("side", [810, 1630])
@pytest.mark.parametrize("grey", [False, True])
def test_a_very_large_face_is_reduced_as_opencv_reduces_it(place, side, grey, monkeypatch):
    image = cv2.GaussianBlur(noise(1000, 1200), (0, 0), 4)
    image = image[:, :, 0] if grey else image
    square = np.array([*place, place[0] + side, place[1] + side])
    crop = cut(image, square, 48, 0.1)
    monkeypatch.setattr(preprocessing, "LARGE_FACTOR", 10**6)
    np.testing.assert_array_equal(crop, cut(image, square, 48, 0.1))


def test_a_smooth_ramp_is_reduced_without_a_shift():
    ramp = np.repeat(np.linspace(0, 255, 400)[None], 400, axis=0)
    image = np.repeat(np.round(ramp)[:, :, None], 3, axis=2).astype(np.uint8)
    crop = cut(image, np.array([50.0, 50, 350, 350]), 48)
    centers_px = 50 + (np.arange(48) + 0.5) * 300 / 48
    assert crop[24, :, 0] == pytest.approx((centers_px - 0.5) * 255 / 399, abs=1.2)


def test_grayscale_is_luma_in_three_normalised_channels():
    image = np.zeros((48, 48, 3), np.uint8)
    image[:] = (0, 0, 255)  # red
    pixels = network_input(image, whole_image(image), INPUT)
    assert pixels.shape == (3, 64, 64) and pixels.dtype == np.float32
    assert pixels[:, 30, 30] == pytest.approx(
        [(0.299 - m) / s for m, s in zip(INPUT.mean, INPUT.std, strict=True)], abs=0.01
    )


def test_colour_channels_are_red_green_blue():
    image = np.zeros((48, 48, 3), np.uint8)
    image[:] = (0, 128, 255)  # orange, blue first
    pixels = network_input(image, whole_image(image), replace(INPUT, grayscale=False))
    back = pixels[:, 30, 30] * INPUT.std + INPUT.mean
    assert back == pytest.approx([1.0, 128 / 255, 0.0], abs=0.01)


def test_the_square_has_the_training_pictures_margin():
    square = face_square(np.array([100, 50, 150, 130]), 1.5)
    assert square == pytest.approx([125 - 60, 90 - 60, 125 + 60, 90 + 60])


def test_a_face_in_a_frame_gives_what_its_picture_gave_in_training():
    from train.data import ToNetworkInput

    crop_bgr = noise(48, 48, seed=3)
    trained = ToNetworkInput(INPUT)(Image.fromarray(np.ascontiguousarray(crop_bgr[:, :, ::-1]))).numpy()
    frame_bgr = noise(360, 640, seed=4)
    frame_bgr[200:248, 300:348] = crop_bgr
    half = 24 / INPUT.crop_scale  # half the side of the box that a detector would have to find
    box = np.array([324 - half, 224 - half, 324 + half, 224 + half], np.float32)
    streamed = network_input(frame_bgr, face_square(box, INPUT.crop_scale), INPUT)
    # float32 boxes are exact to a few millionths of a pixel, so that some values are rounded differently.
    assert np.abs(streamed - trained).max() <= 1.01 / 255 / min(INPUT.std)
    assert np.abs(streamed - trained).mean() < 1e-3


def test_a_large_face_is_reduced_to_the_detail_of_training():
    small = cv2.GaussianBlur(noise(48, 48, seed=5), (0, 0), 1.5)
    large = cv2.resize(small, (480, 480), interpolation=cv2.INTER_CUBIC)
    assert network_input(large, whole_image(large), INPUT) == pytest.approx(
        network_input(small, whole_image(small), INPUT), abs=0.12
    )


@pytest.mark.parametrize("grayscale", [True, False])
def test_a_standardized_face_looks_the_same_in_little_light(grayscale):
    spec = replace(INPUT, grayscale=grayscale, standardize=True)
    face = noise(48, 48)
    dark = (0.2 * face).astype(np.uint8)
    given = [network_input(image, whole_image(image), spec) for image in (face, dark)]
    assert np.abs(given[0] - given[1]).mean() < 0.1  # 51 levels of grey are left
    assert np.abs(given[0] - network_input(dark, whole_image(dark), INPUT)).mean() > 0.5
    mean, std = np.array(spec.mean)[:, None, None], np.array(spec.std)[:, None, None]
    assert float((given[0] * std + mean).mean()) == pytest.approx(0.5, abs=1e-3)
    assert float((given[0] * std + mean).std()) == pytest.approx(0.25, abs=1e-3)


def test_standardizing_a_flat_picture_stays_finite():
    flat = np.full((48, 48, 3), 90, np.uint8)
    given = network_input(flat, whole_image(flat), replace(INPUT, standardize=True))
    assert np.isfinite(given).all() and float(np.ptp(given[0])) < 1e-4


def landmarks_turned_by(degrees: float) -> np.ndarray:
    upright = np.array([[-10, -8], [10, -8], [0, 0], [-7, 9], [7, 9]], np.float64)
    turn = np.deg2rad(degrees)
    return upright @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + 60


@pytest.mark.parametrize(
    ("tilt", "roll"), [(0, 0), (9, 0), (-9, 0), (30, 20), (-30, -20), (100, 90), (170, 160)]
)
def test_a_face_is_turned_back_to_the_tilt_of_training_pictures(tilt, roll):
    assert np.rad2deg(face_roll(landmarks_turned_by(tilt))) == pytest.approx(roll, abs=1e-6)


def test_coinciding_landmarks_turn_nothing():
    assert face_roll(np.zeros((5, 2))) == 0


@pytest.mark.parametrize("side", [48, 96, 150])
def test_a_turned_square_gives_what_the_turned_picture_gives(side):
    image = cv2.GaussianBlur(noise(240, 300), (0, 0), 6)
    square = np.array([150 - side / 2, 120 - side / 2, 150 + side / 2, 120 + side / 2])
    # getRotationMatrix2D turns the picture anticlockwise for positive angles, about a pixel's centre.
    turned = cv2.warpAffine(image, cv2.getRotationMatrix2D((149.5, 119.5), 25, 1.0), (300, 240))
    given, expected = cut(image, square, 48, np.deg2rad(25)), cut(turned, square, 48)
    assert np.abs(given.astype(int) - expected).max() <= 4


def test_a_turned_square_at_the_border_repeats_it():
    image = np.full((60, 80, 3), 90, np.uint8)
    assert (cut(image, np.array([-20, -20, 40, 40]), 48, 0.7) == 90).all()
