"""Make the network's input from a picture and a face box, for streaming, evaluation and baseline training.

FER2013 consists of 48 x 48 grey crops with a certain margin around the face. A face in a video is larger, in
colour, and tightly boxed by the detector. `network_input` puts both through the same steps, so that the
network gets the same kind of input in a video as in training. The input is:

1. the square around the box, widened by `crop_scale` to the margin of the training pictures, and
   rotated if the head is tilted further than those in the training pictures;
2. reduced to `native_size`, the resolution of the training pictures, without aliasing;
3. enlarged to `size`, made grey if the training was, scaled to 0..1, standardized if the training was, and
   normalized.

The strong recipe does the same to whole batches as tensors (`train/augmentation.py`).

Coordinates are continuous: a picture of width W spans 0 to W, pixel i has its centre at i + 0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class InputSpec:
    """The input that a network expects. It is stored in the checkpoint, so that nothing has to be guessed.

    Attributes:
        size: Side of the square input in px.
        mean: Per channel (RGB), of values in 0..1.
        std: Per channel (RGB), of values in 0..1.
        grayscale: Whether the picture is reduced to its luma, repeated in the three channels.
        crop_scale: Side of the training pictures over the longer side of the detector's box in them.
        native_size: Side in px of the training pictures. A larger face is first reduced to it, because the
            network has never seen finer detail.
        standardize: Whether each picture gets the same mean and standard deviation first, so that neither
            the light nor the contrast matters.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    grayscale: bool
    crop_scale: float
    native_size: int
    standardize: bool = False


# A standardized picture has the mean and about the contrast of FER2013's pictures. A flat picture is not
# stretched to full contrast, because it would show only noise.
STANDARD_MEAN, STANDARD_STD, LOWEST_STD = 0.5, 0.25, 0.02

# Heads in FER2013's pictures are tilted, too, so a face tilted by up to this looks like those.
UPRIGHT_WITHIN_RAD = math.radians(10)

LARGE_FACTOR = 16  # from here on, `_block_means` takes less time than OpenCV's INTER_AREA


def face_square(box_xyxy: np.ndarray, crop_scale: float) -> np.ndarray:
    """Return the square around a detector's box, with the margin of the training pictures.

    Args:
        box_xyxy: (4,) px.
        crop_scale: Side of the square over the longer side of the box.

    Returns:
        float32 (4,) px. It may extend outside the picture.
    """
    x1, y1, x2, y2 = (float(value) for value in box_xyxy)
    half = max(x2 - x1, y2 - y1, 1.0) * crop_scale / 2
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return np.array([x - half, y - half, x + half, y + half], np.float32)


def face_roll(landmarks_xy: np.ndarray) -> float:
    """Return the angle by which to rotate a face's square: its tilt beyond `UPRIGHT_WITHIN_RAD`.

    Args:
        landmarks_xy: (5, 2) px: left eye, right eye, nose, left and right corner of the mouth.

    Returns:
        Radians, clockwise in the picture.
    """
    left_eye, right_eye, _, left_mouth, right_mouth = np.asarray(landmarks_xy, np.float64)
    # The longer of the two lines counts for more. In a profile the other is a few pixels of noise.
    across = (right_eye - left_eye) + (right_mouth - left_mouth)
    tilt = math.atan2(across[1], across[0])
    return math.copysign(max(0.0, abs(tilt) - UPRIGHT_WITHIN_RAD), tilt)


def whole_image(image_bgr: np.ndarray) -> np.ndarray:
    """Return the box of a whole picture, for one that is itself a face crop, float32 (4,) px."""
    height, width = image_bgr.shape[:2]
    return np.array([0, 0, width, height], np.float32)


def cut(image: np.ndarray, square_xyxy: np.ndarray, size: int, roll: float = 0.0) -> np.ndarray:
    """Cut a square, which may be rotated, out of a picture and resize it, exact to a fraction of a pixel.

    Outside the picture, its border pixels are repeated. A large square is first reduced by a whole factor by
    averaging areas, and then interpolated bilinearly. So nothing aliases, and the crop of a slowly moving
    box does not jump from pixel to pixel.

    Args:
        image: uint8 (H, W) or (H, W, C).
        square_xyxy: (4,) px. It may extend outside the picture.
        size: Side of the result in px.
        roll: Rotation of the square in radians, clockwise in the picture.

    Returns:
        uint8 (size, size) or (size, size, C).
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (float(value) for value in square_xyxy)
    factor = max(1, int(min(x2 - x1, y2 - y1) / size))
    cos, sin = math.cos(roll), math.sin(roll)
    # The distance by which the rotated square extends beyond the upright one.
    reach = (abs(cos) + abs(sin) - 1) * max(x2 - x1, y2 - y1) / 2
    # Take only the part under the square, in whole blocks of `factor`, and a pixel more for interpolation.
    left, top = max(0, int(x1 - reach) - factor), max(0, int(y1 - reach) - factor)
    right, bottom = (
        min(width, int(x2 + reach) + 2 * factor + 1),
        min(height, int(y2 + reach) + 2 * factor + 1),
    )
    left, top = min(left, width - 1), min(top, height - 1)
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    part = image[top:bottom, left:right]
    if factor > 1:
        blocks_wh = (max(1, part.shape[1] // factor), max(1, part.shape[0] // factor))
        whole = part[: blocks_wh[1] * factor, : blocks_wh[0] * factor]
        if factor >= LARGE_FACTOR:
            part = _block_means(whole, factor)
        else:
            part = cv2.resize(whole, blocks_wh, interpolation=cv2.INTER_AREA)
    scale_x, scale_y = (x2 - x1) / size / factor, (y2 - y1) / size / factor
    middle_x, middle_y = ((x1 + x2) / 2 - left) / factor, ((y1 + y2) / 2 - top) / factor
    to_source = np.array([[cos * scale_x, -sin * scale_y], [sin * scale_x, cos * scale_y]])
    # Pixel u of the result lies at (u + 0.5 - size / 2) from the middle. OpenCV counts from pixel centres.
    offset = np.array([middle_x, middle_y]) - to_source @ np.full(2, (size - 1) / 2) - 0.5
    to_source = np.column_stack([to_source, offset])
    return cv2.warpAffine(
        part,
        to_source,
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _block_means(image: np.ndarray, factor: int) -> np.ndarray:
    """Reduce a picture by a whole factor as OpenCV's INTER_AREA does.

    Args:
        image: uint8 (H, W) or (H, W, C).
        factor: Side of a block in px. It divides both sides of the picture, or is longer than them.

    Returns:
        uint8, the rounded mean of each block.
    """
    height, width = image.shape[:2]
    rows = [
        cv2.reduce(image[top : top + factor], 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
        for top in range(0, height, factor)
    ]
    sums = np.add.reduceat(np.concatenate(rows), np.arange(0, width, factor), axis=1)
    share = np.float32(1 / (min(factor, height) * min(factor, width)))
    return np.rint(sums.astype(np.float32) * share).astype(np.uint8)


def native_crop(
    image_bgr: np.ndarray, square_xyxy: np.ndarray, spec: InputSpec, roll: float = 0.0
) -> np.ndarray:
    """Cut a square out of a picture at the resolution of the training pictures.

    These are the first two steps of the module's list.

    Args:
        image_bgr: uint8 (H, W, 3).
        square_xyxy: (4,) px: `face_square` of a detection, or `whole_image` of a face crop.
        spec: The input that the network expects.
        roll: `face_roll` of a detection.

    Returns:
        uint8 (side, side), or (side, side, 3) in BGR order if the network reads colours.
    """
    crop = cut(image_bgr, square_xyxy, native_side(spec), roll)
    return cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY) if spec.grayscale else crop


def native_side(spec: InputSpec) -> int:
    """Return the side of `native_crop` in px."""
    return min(spec.native_size, spec.size)


def network_input(
    image_bgr: np.ndarray, square_xyxy: np.ndarray, spec: InputSpec, roll: float = 0.0
) -> np.ndarray:
    """Turn a square of a picture into the network's input.

    Args:
        image_bgr: uint8 (H, W, 3).
        square_xyxy: (4,) px: `face_square` of a detection, or `whole_image` of a face crop.
        spec: The input that the network expects.
        roll: `face_roll` of a detection.

    Returns:
        float32 (3, size, size), normalized, channels in RGB order.
    """
    crop = native_crop(image_bgr, square_xyxy, spec, roll)
    if crop.shape[0] != spec.size:
        crop = cv2.resize(crop, (spec.size, spec.size), interpolation=cv2.INTER_LINEAR)
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
    gain, shift = 1.0, 0.0
    if spec.standardize:
        gain = STANDARD_STD / max(float(crop.std()) / 255, LOWEST_STD)
        shift = STANDARD_MEAN - gain * float(crop.mean()) / 255
    scale, offset = gain / (255 * std), (shift - mean) / std
    if spec.grayscale:
        return crop[None].astype(np.float32) * scale[:, None, None] + offset[:, None, None]
    rgb = crop[:, :, ::-1].astype(np.float32) * scale + offset
    return np.ascontiguousarray(rgb.transpose(2, 0, 1))
