"""facenet-pytorch's MTCNN as a detector: `scan` a picture, `refine` known boxes.

Source: Zhang et al., Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
Networks, 2016. Weights and arithmetic are facenet-pytorch's; what differs is where the time goes:

- the picture is summed once (an integral image), and from the sums come every scale of the pyramid
  and every crop, with the very averages that MTCNN takes by reading the whole frame for each;
- a known face needs no scan: R-Net and O-Net round its last box give its new one.

MTCNN's habits end here: it wants RGB in -1..1, and counts pixels from 1.
"""

from __future__ import annotations

import cv2
import numpy as np

from fer_stream.geometry import clipped, non_maximum_suppression, squared, suppress_nested
from fer_stream.mtcnn import O_NET_INPUT, R_NET_INPUT, load_mtcnn
from fer_stream.types import Detections

P_NET_INPUT = 12  # side in px of the face that P-Net recognises
P_NET_STRIDE = 2
PIXEL_SCALE = 0.0078125  # MTCNN reads (pixel - 127.5) / 128
PYRAMID_FACTOR = 0.709  # about the square root of one half: each level has half the pixels
P_NET_THRESHOLD, R_NET_THRESHOLD, O_NET_THRESHOLD = 0.6, 0.7, 0.7
MAX_CANDIDATES = 1000  # a picture of nothing but texture can't make the later stages run for ever
REFINE_MARGIN = 1.1  # side of what O-Net looks at over the longer side of the last box


class Detector:
    """Finds faces in pictures. Not for use by two threads at once.

    Args:
        device: `cpu` or `cuda:N`, as `runtime.pick_device` returns it.
        min_face: Side in px of the smallest face to find.
        threads: CPU threads for one run of a network; 0 takes one a core.
    """

    def __init__(self, device: str = "cpu", *, min_face: int = 40, threads: int = 0) -> None:
        self.min_face = max(int(min_face), P_NET_INPUT)
        self._p_net = load_mtcnn("PNet", device, threads)
        self._r_net = load_mtcnn("RNet", device, threads)
        self._o_net = load_mtcnn("ONet", device, threads)

    def scan(self, image_bgr: np.ndarray) -> Detections:
        """Finds every face of at least `min_face` px in a picture, uint8 (H, W, 3)."""
        pixels = _SummedPixels(image_bgr)
        candidates = self._propose(pixels)
        if not len(candidates):
            return Detections.none()
        boxes = self._r_stage(pixels, squared(candidates))
        if not len(boxes):
            return Detections.none()
        found = self._o_stage(pixels, squared(boxes))
        found = found[found.scores > O_NET_THRESHOLD]
        found = found[suppress_nested(found.boxes_xyxy, found.scores, 0.7)]
        return _inside(found, image_bgr)

    def refine(self, image_bgr: np.ndarray, boxes_xyxy: np.ndarray) -> Detections:
        """Looks for known faces near their last boxes.

        Args:
            image_bgr: uint8 (H, W, 3).
            boxes_xyxy: (N, 4) px, where the faces were or are expected.

        Returns:
            N detections, in the order of the boxes. A score under `O_NET_THRESHOLD` says that
            there is no face any more.
        """
        if not len(boxes_xyxy):
            return Detections.none()
        squares = squared(boxes_xyxy, REFINE_MARGIN)
        return _inside(self._o_stage(_SummedPixels(image_bgr, around_xyxy=squares), squares), image_bgr)

    def _propose(self, pixels: _SummedPixels) -> np.ndarray:
        """P-Net over the pyramid: returns float32 (N, 4) px, regressed, of the most probable places."""
        width, height = pixels.size_wh
        scale = P_NET_INPUT / self.min_face
        all_boxes, all_scores, all_shifts = [], [], []
        while min(height, width) * scale >= P_NET_INPUT:
            level = pixels.resized((int(width * scale + 1), int(height * scale + 1)))
            shifts, probabilities = self._p_net(level)
            rows, columns = np.nonzero(probabilities[0, 1] >= P_NET_THRESHOLD)
            if len(rows):
                scores = probabilities[0, 1, rows, columns]
                # In single precision as MTCNN divides: in double, some whole numbers floor otherwise.
                corners = (np.stack([columns, rows], axis=1) * P_NET_STRIDE).astype(np.float32)
                boxes = np.concatenate([corners + 1, corners + P_NET_INPUT], axis=1) / np.float32(scale)
                boxes = np.floor(boxes)
                keep = non_maximum_suppression(boxes, scores, 0.5)[:MAX_CANDIDATES]
                all_boxes.append(boxes[keep])
                all_scores.append(scores[keep])
                all_shifts.append(shifts[0][:, rows, columns].T[keep])
            scale *= PYRAMID_FACTOR
        if not all_boxes:
            return np.zeros((0, 4), np.float32)
        boxes, shifts = np.concatenate(all_boxes), np.concatenate(all_shifts)
        keep = non_maximum_suppression(boxes, np.concatenate(all_scores), 0.7)[:MAX_CANDIDATES]
        return _shifted(boxes[keep], shifts[keep], pixel=0).astype(np.float32)

    def _r_stage(self, pixels: _SummedPixels, squares_xyxy: np.ndarray) -> np.ndarray:
        """R-Net: returns the boxes that pass, regressed, (M, 4) px."""
        shifts, probabilities = self._r_net(pixels.crops(squares_xyxy, R_NET_INPUT))
        passed = probabilities[:, 1] > R_NET_THRESHOLD
        boxes, scores, shifts = squares_xyxy[passed], probabilities[passed, 1], shifts[passed]
        keep = non_maximum_suppression(boxes, scores, 0.7)
        return _shifted(boxes[keep], shifts[keep], pixel=1)

    def _o_stage(self, pixels: _SummedPixels, squares_xyxy: np.ndarray) -> Detections:
        """O-Net: returns a detection a square, whatever its score."""
        shifts, points, probabilities = self._o_net(pixels.crops(squares_xyxy, O_NET_INPUT))
        sides = squares_xyxy[:, 2:] - squares_xyxy[:, :2] + 1
        landmarks = np.stack([points[:, :5], points[:, 5:]], axis=2)
        landmarks = landmarks * sides[:, None, :] + squares_xyxy[:, None, :2] - 1
        return Detections(
            _shifted(squares_xyxy, shifts, pixel=1).astype(np.float32),
            probabilities[:, 1].astype(np.float32),
            landmarks.astype(np.float32),
        )


class _SummedPixels:
    """The integral image of a picture or of a part of it: any rectangle's mean in four reads.

    It reduces as MTCNN does: output pixel i of n is the mean of the input pixels that it touches,
    from floor(i * N / n) to ceil((i + 1) * N / n). Neighbours share pixels where N / n is not whole,
    which blurs more than OpenCV's INTER_AREA; the networks were trained on that.

    Args:
        image_bgr: uint8 (H, W, 3).
        around_xyxy: (N, 4) px, the squares that will be cut out; the whole picture where None.
    """

    def __init__(self, image_bgr: np.ndarray, around_xyxy: np.ndarray | None = None) -> None:
        height, width = image_bgr.shape[:2]
        self.size_wh = (width, height)
        self._origin_xy = np.zeros(2, np.int64)
        if around_xyxy is not None:
            lows, highs = self._whole_pixels(around_xyxy)
            self._origin_xy = lows.min(axis=0)
            (left, top), (right, bottom) = self._origin_xy, highs.max(axis=0)
            image_bgr = image_bgr[top:bottom, left:right]
        # int32 overflows beyond 4K, but the difference of two sums is right all the same.
        self._sums = cv2.integral(image_bgr)

    def resized(self, size_wh: tuple[int, int]) -> np.ndarray:
        """Returns the whole picture reduced, float32 (1, 3, height, width), RGB in -1..1."""
        starts_x, ends_x = _windows(self.size_wh[0], size_wh[0])
        starts_y, ends_y = _windows(self.size_wh[1], size_wh[1])
        rows = self._sums[ends_y]
        rows -= self._sums[starts_y]
        sums = rows.take(ends_x, axis=1)
        sums -= rows.take(starts_x, axis=1)
        return _normalised(sums, (ends_y - starts_y)[:, None] * (ends_x - starts_x))[None]

    def crops(self, squares_xyxy: np.ndarray, size: int) -> np.ndarray:
        """Cuts squares as MTCNN does: whole pixels, counted from 1, cut off at the border.

        Args:
            squares_xyxy: (N, 4) px.
            size: Side of a crop in px.

        Returns:
            float32 (N, 3, size, size), RGB in -1..1. Of a square outside the picture its nearest
            pixels, in which no face is found.
        """
        lows, highs = self._whole_pixels(squares_xyxy)
        starts, ends = _windows((highs - lows)[..., None], size)
        offsets = (lows - self._origin_xy)[..., None]
        starts, ends = starts + offsets, ends + offsets
        left, right = starts[:, 0, None, :], ends[:, 0, None, :]
        top, bottom = starts[:, 1, :, None], ends[:, 1, :, None]
        # Indexes into the flat array: a crowd's hundreds of crops are cut several times faster.
        flat, stride = self._sums.reshape(-1, 3), self._sums.shape[1]
        sums = flat.take(bottom * stride + right, axis=0)
        sums -= flat.take(top * stride + right, axis=0)
        sums -= flat.take(bottom * stride + left, axis=0)
        sums += flat.take(top * stride + left, axis=0)
        return _normalised(sums, (bottom - top) * (right - left))

    def _whole_pixels(self, squares_xyxy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the first pixel of each square and the one after its last, int64 (N, 2), inside."""
        whole, size_wh = np.trunc(squares_xyxy).astype(np.int64), np.array(self.size_wh)
        lows = np.minimum(np.maximum(whole[:, :2], 1), size_wh) - 1
        return lows, np.maximum(np.minimum(whole[:, 2:], size_wh), lows + 1)


def _windows(length: np.ndarray | int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns where the windows that make `count` pixels of `length` start and end."""
    index = np.arange(count)
    return index * length // count, -(-(index + 1) * length // count)


def _normalised(sums_bgr: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Returns sums int32 (..., H, W, 3) over a number of pixels (..., H, W) as float32 (..., 3, H, W)."""
    *leading, height, width, _ = sums_bgr.shape
    normalised = np.empty((*leading, 3, height, width), np.float32)
    scale = (PIXEL_SCALE / pixels).astype(np.float32)
    for rgb in range(3):  # plane by plane, which reads and writes each number once
        np.multiply(sums_bgr[..., 2 - rgb], scale, out=normalised[..., rgb, :, :])
    normalised -= np.float32(127.5 * PIXEL_SCALE)
    return normalised


def _shifted(boxes_xyxy: np.ndarray, shifts: np.ndarray, pixel: int) -> np.ndarray:
    """Returns the boxes moved by the network's regression, which is in units of their sides.

    R-Net and O-Net count the last pixel into a side, so `pixel` is 1 for them, and 0 for P-Net.
    """
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] + pixel
    return boxes_xyxy + shifts * np.concatenate([sides, sides], axis=1)


def _inside(found: Detections, image_bgr: np.ndarray) -> Detections:
    boxes = clipped(found.boxes_xyxy, (image_bgr.shape[1], image_bgr.shape[0]))
    return Detections(boxes, found.scores, found.landmarks_xy)
