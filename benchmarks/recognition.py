"""Measure recognition on other footage than 48 px crops, and how steady labels are in videos.

    python benchmarks/recognition.py faces DATA/validation
    python benchmarks/recognition.py videos VIDEO...
    python benchmarks/recognition.py speed

`faces` pastes labelled pictures into frames, makes the frames worse, and analyzes them like any picture. It
prints the share of faces found and the accuracy on them, the share of these that are not unsure and the
accuracy on those, and the accuracy on all pictures if the face's place is given, which leaves out the
detector. With FER+, the label of a picture is the majority of its votes in `DATA/ferplus-votes.csv`.

`videos` measures how often a face's label changes, how far smoothing shifts the onset of an expression, the
share of fear and sadness, and ids against people if those are labelled. It also counts the frames after a cut
from one video to the next until the new face is there.

`speed` measures the network's time per face, in batches.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from videos import compare_videos

from fer_stream.analyzer import Analyzer
from fer_stream.errors import FerStreamError
from fer_stream.expressions import ANNOTATIONS, EXPRESSIONS, FERPLUS
from fer_stream.recognition.classifier import Classifier
from fer_stream.recognition.preprocessing import UPRIGHT_WITHIN_RAD, network_input
from train.data import open_folder
from train.folders import VOTES_NAME
from train.votes import majority, read_votes

BATCHES, ROUNDS = (1, 8, 16, 64), 20
MARGIN = 1.0  # on each side of the face, relative to its side


@dataclass(frozen=True)
class Fault:
    """A way to make pictures worse.

    Attributes:
        name: Name in the table.
        side_px: Side to which a FER2013 picture is enlarged or reduced.
        worsen: Returns a worse version of a frame, uint8 (H, W, 3) BGR.
        degrees: Angle by which the whole frame is turned.
    """

    name: str
    side_px: int = 96
    worsen: Callable[[np.ndarray], np.ndarray] = np.copy
    degrees: float = 0.0


def jpeg(quality: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that compresses a frame as JPEG."""

    def compress(frame_bgr: np.ndarray) -> np.ndarray:
        packed = cv2.imencode(".jpg", frame_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR))

    return compress


def noise(frame_bgr: np.ndarray) -> np.ndarray:
    """Add noise of a standard deviation of 20 of 255 to every channel."""
    drawn = np.random.default_rng(0).normal(0, 20, frame_bgr.shape)
    return np.clip(frame_bgr + drawn, 0, 255).astype(np.uint8)


def blur(frame_bgr: np.ndarray) -> np.ndarray:
    """Blur by 3 px of 96, like a lens out of focus."""
    return cv2.GaussianBlur(frame_bgr, (0, 0), 3)


def dark(frame_bgr: np.ndarray) -> np.ndarray:
    """Reduce the light to a fifth, and add sensor noise."""
    drawn = np.random.default_rng(0).normal(0, 3, frame_bgr.shape)
    return np.clip(0.2 * frame_bgr + drawn, 0, 255).astype(np.uint8)


def warm(frame_bgr: np.ndarray) -> np.ndarray:
    """Colour a grey frame like skin in the light of a lamp."""
    return np.clip(frame_bgr * np.array([0.6, 0.8, 1.1]), 0, 255).astype(np.uint8)


FAULTS = (
    Fault("96 px"),
    Fault("in colour", worsen=warm),
    Fault("300 px", side_px=300),
    Fault("48 px", side_px=48),
    Fault("30 px", side_px=30),
    Fault("24 px", side_px=24),
    Fault("JPEG, quality 30", worsen=jpeg(30)),
    Fault("noise, sigma 20", worsen=noise),
    Fault("blur, sigma 3 px", worsen=blur),
    Fault("a fifth of the light", worsen=dark),
    Fault("rotated by 15 degrees", degrees=15),
    Fault("rotated by 30 degrees", degrees=30),
)


def framed(picture_bgr: np.ndarray, fault: Fault) -> tuple[np.ndarray, np.ndarray]:
    """Put a face into a frame.

    Returns:
        The frame, uint8 (H, W, 3), and the face's square float32 (4,) px.
    """
    side = fault.side_px
    shrinks = side < picture_bgr.shape[0]
    face = cv2.resize(picture_bgr, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    margin = max(48, round(MARGIN * side))
    frame = cv2.copyMakeBorder(face, margin, margin, margin, margin, cv2.BORDER_REFLECT)
    # The border's mirror images must not look like faces.
    frame = cv2.GaussianBlur(frame, (0, 0), side / 6)
    frame[margin : margin + side, margin : margin + side] = face
    if fault.degrees:
        middle = (frame.shape[1] / 2, frame.shape[0] / 2)
        turn = cv2.getRotationMatrix2D(middle, fault.degrees, 1.0)
        frame = cv2.warpAffine(frame, turn, frame.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    square = np.array([margin, margin, margin + side, margin + side], np.float32)
    return fault.worsen(frame), square


def compare_faces(folder: Path, weights: Path | None, labels: str | None, count: int) -> None:
    """Print a row for each fault."""
    analyzer = Analyzer("cpu", weights, labels=labels, min_face=20)
    classifier = Classifier("cpu", weights=weights, labels=labels)
    chosen = _pictures(folder, classifier.labels, count)
    print(f"{len(chosen)} pictures, at most {count} of each expression, against {classifier.labels}\n")
    print(f"{'':24}{'found':>8}{'read right':>12}{'shown':>9}{'right of shown':>16}{'in place':>11}")
    for fault in FAULTS:
        found = right = shown = right_of_shown = right_in_place = 0
        for path, label in chosen:
            frame, square = framed(np.asarray(cv2.imread(path)), fault)
            # The angle by which streaming would turn the crop. The frame is turned anticlockwise.
            roll = -max(0.0, np.deg2rad(fault.degrees) - UPRIGHT_WITHIN_RAD)
            given = classifier.read(network_input(frame, square, classifier.input, roll)[None])[0]
            right_in_place += int(given.argmax() == label)
            at_place = [face for face in analyzer.analyze(frame) if _is_at(face.box_xyxy, square)]
            if at_place:
                found += 1
                best = max(at_place, key=lambda face: face.detection_score)
                is_right = best.expression == EXPRESSIONS[label]
                right += is_right
                shown += not best.unsure
                right_of_shown += is_right and not best.unsure
        print(f"{fault.name:24}{_share(found, len(chosen)):>8}{_share(right, found):>12}"
              f"{_share(shown, found):>9}{_share(right_of_shown, shown):>16}"
              f"{_share(right_in_place, len(chosen)):>11}", flush=True)  # fmt: skip


def compare_speed(weights: Path | None, labels: str | None) -> None:
    """Print the milliseconds that the network takes for a face, by the size of the batch.

    The time of all cores together tells more than the clock on a machine that does other work, too.
    """
    classifier = Classifier("cpu", weights=weights, labels=labels)
    size = classifier.input.size
    random_faces = np.random.default_rng(0).normal(size=(max(BATCHES), 3, size, size)).astype(np.float32)
    print(f"{'faces at once':>14}{'median':>10}{'best':>10}{'all cores':>12}   ms a face, of {ROUNDS} runs")
    for count in BATCHES:
        times_ms, cores_ms = [], []
        for _ in range(ROUNDS):
            began_s, cores_began_s = time.perf_counter(), time.process_time()
            classifier.read(random_faces[:count])
            times_ms.append(1000 * (time.perf_counter() - began_s) / count)
            cores_ms.append(1000 * (time.process_time() - cores_began_s) / count)
        print(f"{count:14}{np.median(times_ms):10.2f}{min(times_ms):10.2f}{np.median(cores_ms):12.2f}",
              flush=True)  # fmt: skip


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _pictures(folder: Path, annotation: str, count: int) -> list[tuple[str, int]]:
    """Return at most `count` pictures of each expression, by an annotation: paths and expressions."""
    pictures = open_folder(folder)
    labels = np.array(pictures.targets)
    if annotation == FERPLUS:
        labels = majority(read_votes(folder.parent / VOTES_NAME, pictures).numpy())
    chosen: list[tuple[str, int]] = []
    for label in range(len(EXPRESSIONS)):
        paths = sorted(
            path for (path, _), each in zip(pictures.samples, labels, strict=True) if each == label
        )
        chosen += [(path, label) for path in random.Random(0).sample(paths, min(len(paths), count))]
    return chosen


def _is_at(box_xyxy: np.ndarray, square_xyxy: np.ndarray) -> bool:
    """Return whether a box lies in the middle of the square and is between half and twice its size."""
    side = square_xyxy[2] - square_xyxy[0]
    offset = (box_xyxy[:2] + box_xyxy[2:] - square_xyxy[:2] - square_xyxy[2:]) / 2
    longer = max(box_xyxy[2] - box_xyxy[0], box_xyxy[3] - box_xyxy[1])
    return bool(np.abs(offset).max() < side / 4 and side / 2 < longer < 2 * side)


def main() -> int:
    """Run the measurement and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("faces", "videos", "speed"))
    parser.add_argument(
        "paths", type=Path, nargs="*", metavar="PATH", help="a folder of labelled pictures; videos"
    )
    parser.add_argument("--weights", type=Path, help="a checkpoint of fer-train (default: the built-in one)")
    parser.add_argument("--labels", choices=ANNOTATIONS, help="of pictures (default: as the weights have it)")
    parser.add_argument("--pictures", type=int, default=50, help="of each expression (default: %(default)s)")
    options = parser.parse_args()
    if bool(options.paths) == (options.what == "speed"):
        parser.error("faces takes a folder, videos takes videos, and speed takes no path")
    try:
        if options.what == "faces":
            compare_faces(options.paths[0], options.weights, options.labels, options.pictures)
        elif options.what == "speed":
            compare_speed(options.weights, options.labels)
        else:
            compare_videos(options.paths, options.weights)
    except FerStreamError as error:
        print(f"recognition: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
