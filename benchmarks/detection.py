"""Compare our detector and tracker with MTCNN as shipped, scanning every frame.

    python benchmarks/detection.py VIDEO [VIDEO ...] [--scan-every N] [--min-face PX]

For each video it prints the share of MTCNN's faces that we find (IoU 0.5), the share of faces that we add,
and the number of ids on each side. MTCNN's faces get ids by matching boxes from frame to frame. `--scan-every
1` measures the detector alone. Our faces include those that are followed back from a scan.
"""

from __future__ import annotations

import argparse
import itertools
import pickle
import threading
from pathlib import Path

import cv2
import numpy as np

from fer_stream.analysis.finding import find_in_recording
from fer_stream.detection.association import match
from fer_stream.detection.detector import Detector
from fer_stream.detection.geometry import iou_matrix
from fer_stream.detection.pace import ScanEvery
from fer_stream.profiling import Profile
from fer_stream.sources import open_source


def shipped_boxes(video: Path, min_face: int, cache: Path | None) -> list[np.ndarray]:
    """Return MTCNN's boxes for each frame, float32 (N, 4) each. `cache` keeps them for the next run."""
    kept = cache / f"{video.stem}-{min_face}.pickle" if cache else None
    if kept and kept.exists():
        return pickle.loads(kept.read_bytes())
    from facenet_pytorch import MTCNN

    mtcnn = MTCNN(keep_all=True, min_face_size=min_face)
    boxes = []
    with open_source(video) as source:
        for frame in source:
            found, _ = mtcnn.detect(cv2.cvtColor(frame.bgr, cv2.COLOR_BGR2RGB))
            boxes.append(np.zeros((0, 4), np.float32) if found is None else found.astype(np.float32))
    if kept:
        kept.write_bytes(pickle.dumps(boxes))
    return boxes


def tracked_boxes(
    video: Path, scan_every: ScanEvery, min_face: int, profile: Profile
) -> tuple[list[list[tuple[int, np.ndarray]]], int]:
    """Return our faces of each frame, as the id of the track and the box, and the number of scans.

    The profile receives the time of each frame, without decoding.
    """
    of_frames: list[list[tuple[int, np.ndarray]]] = []
    scans = 0
    with open_source(video) as source:
        batches = find_in_recording(
            source,
            Detector(min_face=min_face),
            scan_every,
            batch=1,
            enough_faces=1,
            early_scan_threads=0,
            abandoned=threading.Event(),
            profile=profile,
        )
        for found in itertools.chain.from_iterable(batches):
            of_frames.append([(face.track_id, face.box_xyxy) for face in found.tracked.faces])
            for earlier in found.earlier:
                of_frames[earlier.frame.index].append((earlier.face.track_id, earlier.face.box_xyxy))
            scans += found.tracked.scanned
    return of_frames, scans


def count_ids(boxes_of_frames: list[np.ndarray]) -> int:
    """Return the number of ids from the simplest tracking: overlap with the frame before."""
    ids, before = 0, np.zeros((0, 4), np.float32)
    for boxes in boxes_of_frames:
        ids += len(boxes) - len(match(before, boxes))
        before = boxes
    return ids


def main() -> None:
    """Compare each video and print a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--scan-every", type=int, help="(default: by how many faces there are)")
    parser.add_argument("--min-face", type=int, default=40)
    parser.add_argument("--cache", type=Path, help="folder that keeps MTCNN's boxes between runs")
    options = parser.parse_args()
    print("video                 frames  MTCNN  found   added   mean IoU  ids: MTCNN  ours   ms/frame  scans")
    for video in options.videos:
        shipped = shipped_boxes(video, options.min_face, options.cache)
        profile = Profile()
        tracked, scans = tracked_boxes(video, options.scan_every or "auto", options.min_face, profile)
        found = added = total = 0
        overlaps: list[float] = []
        ids = {track_id for boxes in tracked for track_id, _ in boxes}
        for expected, faces in zip(shipped, tracked, strict=True):
            boxes = np.array([box for _, box in faces], np.float32).reshape(-1, 4)
            overlap = iou_matrix(expected, boxes)
            pairs = [pair for pair in match(expected, boxes) if overlap[pair] >= 0.5]
            overlaps += [overlap[pair] for pair in pairs]
            found += len(pairs)
            added += len(boxes) - len(pairs)
            total += len(expected)
        print(
            f"{video.stem:<22}{len(shipped):>5}{total:>8}"
            f"{found / max(total, 1):>7.1%}{added / max(total, 1):>8.1%}"
            f"{np.mean(overlaps or [0]):>10.3f}{count_ids(shipped):>10}{len(ids):>8}"
            f"{profile.stages_ms()['detect']['mean']:>10.1f}{scans:>8}"
        )


if __name__ == "__main__":
    main()
