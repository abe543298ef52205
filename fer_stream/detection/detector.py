"""facenet-pytorch's MTCNN as a detector: `scan` a picture, `refine` known boxes.

Source: Zhang et al., Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
Networks, 2016. Weights and arithmetic are facenet-pytorch's; what differs is where the time goes:

- the picture is summed once (an integral image), and from the sums come every scale of the pyramid
  and every crop, with the very averages that MTCNN takes by reading the whole frame for each;
- a known face needs no scan: R-Net and O-Net round its last box give its new one.

MTCNN's habits end here: it wants RGB in -1..1, and counts pixels from 1.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from fer_stream.detection.geometry import (
    clipped,
    iou_matrix,
    non_maximum_suppression,
    squared,
    suppress_nested,
)
from fer_stream.detection.mtcnn import O_NET_INPUT, R_NET_INPUT, load_mtcnn
from fer_stream.detection.pixels import SummedPixels, TorchSummedPixels
from fer_stream.inference.threads import Workers
from fer_stream.types import Detections

if TYPE_CHECKING:
    import torch

    from fer_stream.inference.network import Network

    Pixels = SummedPixels | TorchSummedPixels

P_NET_INPUT = 12  # side in px of the face that P-Net recognises
P_NET_STRIDE = 2
PYRAMID_FACTOR = 0.709  # about the square root of one half: each level has half the pixels
P_NET_THRESHOLD, R_NET_THRESHOLD, O_NET_THRESHOLD = 0.6, 0.7, 0.7
MAX_CANDIDATES = 1000  # a picture of nothing but texture can't make the later stages run for ever
SEARCH_REACH = 3.0  # side of what is searched for a lost face over that of its box
SEARCH_SIZES = 2.0  # by so much it may have grown or shrunk
# Of the places where R-Net sees a face that is known already, O-Net looks at the best few only.
KNOWN_IOU, LOOKED_AT_OF_KNOWN = 0.5, 2
LARGEST_KEPT = 4096 * 2160  # pixels; the sums of a larger picture are not held for the next one
REFINE_MARGIN = 1.1  # side of what O-Net looks at over the longer side of the last box


class Detector:
    """Finds faces in pictures. Not for use by two threads at once.

    Args:
        device: `cpu` or `cuda:N`, as `devices.pick_device` returns it.
        min_face: Side in px of the smallest face to find.
        threads: CPU threads; 0 takes one a core.
    """

    def __init__(self, device: str = "cpu", *, min_face: int = 40, threads: int = 0) -> None:
        self.min_face = max(int(min_face), P_NET_INPUT)
        self._device = device
        self._workers = Workers(threads if device == "cpu" else 1)
        self._last = threading.local()  # the pixels of each thread's last scan
        self._p_net, self._r_net, self._o_net = (
            load_mtcnn(name, device, self._workers.network_threads) for name in ("PNet", "RNet", "ONet")
        )

    def scan(self, image_bgr: np.ndarray, known_xyxy: np.ndarray | None = None) -> Detections:
        """Finds every face of at least `min_face` px in a picture.

        Args:
            image_bgr: uint8 (H, W, 3).
            known_xyxy: (N, 4) px, where faces are expected: with these it takes less time, and their
                new boxes are a little less exact.
        """
        return self._scan([image_bgr], known_xyxy)[0]

    def scan_batch(self, images_bgr: Sequence[np.ndarray | torch.Tensor]) -> list[Detections]:
        """Scans pictures of one size together: each network runs on all of them at once.

        Args:
            images_bgr: uint8 (H, W, 3) each; for a GPU also those that `pixels.upload` has sent ahead.
        """
        return self._scan(images_bgr)

    def _scan(
        self, images_bgr: Sequence[np.ndarray | torch.Tensor], known_xyxy: np.ndarray | None = None
    ) -> list[Detections]:
        pixels: Pixels
        if self._device == "cpu":
            frames_bgr = cast("Sequence[np.ndarray]", images_bgr)
            height, width = frames_bgr[0].shape[:2]
            last: SummedPixels | None = self._last.__dict__.pop("pixels", None)
            if last is not None and last.size_wh != (width, height):
                last = None  # gone before the next takes its memory
            pixels = SummedPixels(frames_bgr, reuse=last)
            if width * height <= LARGEST_KEPT:
                self._last.pixels = pixels
        else:
            pixels = TorchSummedPixels(images_bgr, self._device)
        return self._cascade(pixels, self._scales(pixels.size_wh), known_xyxy)

    def search(self, image_bgr: np.ndarray, box_xyxy: np.ndarray) -> Detections:
        """Scans for a lost face: round its box, for faces of about its size.

        Args:
            image_bgr: uint8 (H, W, 3).
            box_xyxy: (4,) px, where the face was or is expected.

        Returns:
            The faces there, which may be others than the lost one, and none.
        """
        region = np.trunc(squared(box_xyxy[None], SEARCH_REACH)[0]).astype(int)
        left, top = np.maximum(region[:2], 0)
        part_bgr = image_bgr[top : max(region[3], 0), left : max(region[2], 0)]
        if not part_bgr.size:
            return Detections.none()
        side = float((box_xyxy[2:] - box_xyxy[:2]).max())
        scales = [
            scale
            for scale in self._scales((part_bgr.shape[1], part_bgr.shape[0]))
            if side / SEARCH_SIZES <= P_NET_INPUT / scale <= side * SEARCH_SIZES
        ]
        (found,) = self._cascade(SummedPixels([part_bgr]), scales)
        offset = np.array([left, top], np.float32)
        return Detections(found.boxes_xyxy + np.tile(offset, 2), found.scores, found.landmarks_xy + offset)

    def refine(self, image_bgr: np.ndarray, boxes_xyxy: np.ndarray) -> Detections:
        """Looks for known faces near their last boxes.

        Args:
            image_bgr: uint8 (H, W, 3).
            boxes_xyxy: (N, 4) px, where the faces were or are expected.

        Returns:
            N detections, in the order of the boxes. A low score says that there is no face any more;
            see `tracker.STILL_THERE_SCORE`.
        """
        if not len(boxes_xyxy):
            return Detections.none()
        squares = squared(boxes_xyxy, REFINE_MARGIN)
        pixels = SummedPixels([image_bgr], around_xyxy=squares)
        return _inside(self._o_stage(pixels, squares, np.zeros(len(squares), np.int64)), pixels)

    def _scales(self, size_wh: tuple[int, int]) -> list[float]:
        """Returns the scales of the pyramid: at each, the smallest face that is found is P-Net's input."""
        scales = [P_NET_INPUT / self.min_face]
        while min(size_wh) * scales[-1] >= P_NET_INPUT:
            scales.append(scales[-1] * PYRAMID_FACTOR)
        return scales[:-1]

    def _cascade(
        self, pixels: Pixels, scales: Sequence[float], known_xyxy: np.ndarray | None = None
    ) -> list[Detections]:
        """The three networks, one after the other, over some scales; returns what is in each frame."""
        boxes, frames = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        if scales:
            boxes, frames = self._propose(pixels, scales)
        if len(boxes):
            boxes, frames = self._r_stage(pixels, squared(boxes), frames)
        if known_xyxy is not None and len(known_xyxy):
            keep = _few_of_each(boxes, known_xyxy)
            boxes, frames = boxes[keep], frames[keep]
        if not len(boxes):
            return [Detections.none()] * len(pixels)
        everything = self._o_stage(pixels, squared(boxes), frames)
        detections = []
        for frame in range(len(pixels)):
            found = everything[(frames == frame) & (everything.scores > O_NET_THRESHOLD)]
            found = found[suppress_nested(found.boxes_xyxy, found.scores, 0.7)]
            detections.append(_inside(found, pixels))
        return detections

    def _propose(self, pixels: Pixels, scales: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """P-Net over the pyramid: returns the most probable places.

        Returns:
            float32 (N, 4) px, regressed, and int (N,), the frame of each.
        """

        def level(scale: float) -> list[_Places]:
            width, height = pixels.size_wh
            resized = pixels.resized((int(width * scale + 1), int(height * scale + 1)))
            shifts, probabilities = self._p_net(resized)
            return [_places(*of_frame, scale) for of_frame in zip(shifts, probabilities, strict=True)]

        # The first level has about as many pixels as all others together.
        levels = self._workers.map(level, scales)
        proposed = [np.zeros((0, 4), np.float32)]
        for of_levels in zip(*levels, strict=True):
            best = _Places(*map(np.concatenate, zip(*of_levels, strict=True))).best(0.7)
            proposed.append(_shifted(best.boxes_xyxy, best.shifts, pixel=0).astype(np.float32))
        counts = [len(boxes) for boxes in proposed[1:]]
        return np.concatenate(proposed), np.repeat(np.arange(len(counts)), counts)

    def _r_stage(
        self, pixels: Pixels, squares_xyxy: np.ndarray, frames: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """R-Net: returns the boxes that pass, regressed, (M, 4) px, the best first, and the frame of each."""
        shifts, probabilities = self._look_at(self._r_net, R_NET_INPUT, pixels, squares_xyxy, frames)
        scores = probabilities[:, 1]
        kept = []
        for frame in range(len(pixels)):
            passed = np.flatnonzero((frames == frame) & (scores > R_NET_THRESHOLD))
            kept.append(passed[non_maximum_suppression(squares_xyxy[passed], scores[passed], 0.7)])
        keep = np.concatenate(kept)
        return _shifted(squares_xyxy[keep], shifts[keep], pixel=1), frames[keep]

    def _o_stage(self, pixels: Pixels, squares_xyxy: np.ndarray, frames: np.ndarray) -> Detections:
        """O-Net: returns a detection a square, whatever its score."""
        shifts, points, probabilities = self._look_at(self._o_net, O_NET_INPUT, pixels, squares_xyxy, frames)
        sides = squares_xyxy[:, 2:] - squares_xyxy[:, :2] + 1
        landmarks = np.stack([points[:, :5], points[:, 5:]], axis=2)
        landmarks = landmarks * sides[:, None, :] + squares_xyxy[:, None, :2] - 1
        return Detections(
            _shifted(squares_xyxy, shifts, pixel=1).astype(np.float32),
            probabilities[:, 1].astype(np.float32),
            landmarks.astype(np.float32),
        )

    def _look_at(
        self, network: Network, size: int, pixels: Pixels, squares_xyxy: np.ndarray, frames: np.ndarray
    ) -> list[np.ndarray]:
        """Runs R-Net or O-Net on squares; returns its outputs, (N, ...) each."""

        def look(part: slice) -> tuple[np.ndarray, ...]:
            return network(pixels.crops(squares_xyxy[part], frames[part], size))

        outputs = self._workers.map(look, self._workers.parts(len(squares_xyxy)))
        return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]


def _few_of_each(boxes_xyxy: np.ndarray, known_xyxy: np.ndarray) -> np.ndarray:
    """Returns which boxes, the best first, are on no known face or among the best few on it: bool (N,)."""
    overlap = iou_matrix(boxes_xyxy.astype(np.float32), known_xyxy)
    keep = np.ones(len(boxes_xyxy), bool)
    for known in range(len(known_xyxy)):
        on_it = (overlap.argmax(axis=1) == known) & (overlap[:, known] > KNOWN_IOU)
        keep[np.flatnonzero(on_it)[LOOKED_AT_OF_KNOWN:]] = False
    return keep


def _places(shifts: np.ndarray, probabilities: np.ndarray, scale: float) -> _Places:
    """Returns where P-Net sees a face in one frame at one scale.

    Args:
        shifts: float32 (4, height, width), how the box of each place should move.
        probabilities: float32 (2, height, width), of no face and of a face.
        scale: Of the level over the frame.
    """
    rows, columns = np.nonzero(probabilities[1] >= P_NET_THRESHOLD)
    # In single precision as MTCNN divides: in double, some whole numbers floor otherwise.
    corners = (np.stack([columns, rows], axis=1) * P_NET_STRIDE).astype(np.float32)
    boxes = np.concatenate([corners + 1, corners + P_NET_INPUT], axis=1) / np.float32(scale)
    found = _Places(np.floor(boxes), probabilities[1, rows, columns], shifts[:, rows, columns].T)
    return found.best(0.5)


class _Places(NamedTuple):
    """Where P-Net sees a face.

    Attributes:
        boxes_xyxy: float32 (N, 4) px.
        scores: float32 (N,).
        shifts: float32 (N, 4), how the boxes should move.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    shifts: np.ndarray

    def best(self, iou: float) -> _Places:
        """Returns those without a better one that overlaps more than this, the best first."""
        keep = non_maximum_suppression(self.boxes_xyxy, self.scores, iou)[:MAX_CANDIDATES]
        return _Places(*(values[keep] for values in self))


def _shifted(boxes_xyxy: np.ndarray, shifts: np.ndarray, pixel: int) -> np.ndarray:
    """Returns the boxes moved by the network's regression, which is in units of their sides.

    R-Net and O-Net count the last pixel into a side, so `pixel` is 1 for them, and 0 for P-Net.
    """
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] + pixel
    return boxes_xyxy + shifts * np.concatenate([sides, sides], axis=1)


def _inside(found: Detections, pixels: Pixels) -> Detections:
    return Detections(clipped(found.boxes_xyxy, pixels.size_wh), found.scores, found.landmarks_xy)
