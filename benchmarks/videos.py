"""Measure labels and ids in whole videos; `recognition.py videos` prints what this module finds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, pairwise
from pathlib import Path

import cv2
import numpy as np
from people import LABELS_OF_VIDEOS, Boxes, print_score, read_people, score_people

from fer_stream.analyzer import Analyzer
from fer_stream.expressions import FER2013, UNSURE
from fer_stream.sources import SourceKind, open_source
from fer_stream.types import Frame

HELD_S = 0.3  # the shortest episode; a shorter stretch may be flicker
CUT_FRAMES = 48
WORRIED = ("fear", "sad")  # wrong readings of calm passers-by by a network that learned FER2013's labels


@dataclass(frozen=True, eq=False)
class Readings:
    """The table of one video, without the pictures.

    Attributes:
        times_s: The time of each frame.
        expressions: For each frame, the expression of each face by its id.
        labels: The same, but `unsure` for faces that are shown as unsure.
        boxes: By frame, then by id: float32 (4,) px.
    """

    times_s: Sequence[float]
    expressions: Sequence[dict[int, str]]
    labels: Sequence[dict[int, str]]
    boxes: Boxes

    def share(self, expressions: Collection[str]) -> float:
        """Return the share of faces, over all frames, with one of these expressions."""
        return _share(self.expressions, expressions)

    def share_shown(self, labels: Collection[str]) -> float:
        """Return the share of faces, over all frames, that are shown with one of these labels."""
        return _share(self.labels, labels)

    def label_changes(self) -> tuple[int, float]:
        """Return the number of label changes from one frame to the next, and the face-seconds."""
        changes, seconds = 0, 0.0
        for (time_s, now), (next_s, after) in pairwise(zip(self.times_s, self.expressions, strict=True)):
            both = now.keys() & after.keys()
            seconds += len(both) * (next_s - time_s)
            changes += sum(now[face_id] != after[face_id] for face_id in both)
        return changes, seconds

    def runs(self) -> dict[int, list[Run]]:
        """Return each face's runs: frames in a row with one expression, in order."""
        seen: dict[int, list[tuple[int, str]]] = defaultdict(list)
        for frame, of_frame in enumerate(self.expressions):
            for face_id, name in of_frame.items():
                seen[face_id].append((frame, name))
        return {face_id: list(_runs(readings)) for face_id, readings in seen.items()}


def _share(of_frames: Sequence[dict[int, str]], wanted: Collection[str]) -> float:
    names = [name for of_frame in of_frames for name in of_frame.values()]
    return sum(name in wanted for name in names) / max(len(names), 1)


@dataclass(frozen=True)
class Run:
    """Frames in a row in which one face has one expression.

    Attributes:
        expression: The expression.
        start: The first frame.
        end: The frame after the last one.
    """

    expression: str
    start: int
    end: int

    def overlap(self, other: Run) -> int:
        """Return the number of frames that both contain."""
        return max(0, min(self.end, other.end) - max(self.start, other.start))


def _runs(readings: list[tuple[int, str]]) -> Iterator[Run]:
    numbered = enumerate(readings)
    for (expression, _), items in groupby(numbered, key=lambda item: (item[1][1], item[1][0] - item[0])):
        frames = [frame for _, (frame, _) in items]
        yield Run(expression, frames[0], frames[-1] + 1)


def read_video(analyzer: Analyzer, path: Path) -> Readings:
    """Analyze a video as a recording."""
    times_s, expressions, labels, boxes = [], [], [], {}
    with open_source(path) as source:
        for index, analyzed in enumerate(analyzer.stream(source)):
            times_s.append(analyzed.frame.time_s)
            expressions.append({face.id: face.expression for face in analyzed.faces})
            labels.append({face.id: face.label for face in analyzed.faces})
            boxes[index] = {face.id: face.box_xyxy for face in analyzed.faces}
    return Readings(times_s, expressions, labels, boxes)


def onset_errors(unsmoothed: Readings, smoothed: Readings) -> list[float]:
    """Return the delay of each expression's onset in frames: positive if late, negative if early.

    An expression begins with an unsmoothed run of at least `HELD_S`, if the last run of that length had
    another expression. The smoothed onset is the start of the run of this expression that shares the most
    frames with it. If the unsmoothed label flickers before it holds, it starts several times, and the
    nearest start counts.

    Returns:
        Delays in frames; infinity for an expression that smoothing removed.
    """
    frame_s = (unsmoothed.times_s[-1] - unsmoothed.times_s[0]) / max(len(unsmoothed.times_s) - 1, 1)
    smoothed_runs, errors = smoothed.runs(), []
    for face_id, runs in unsmoothed.runs().items():
        held = [run for run in runs if (run.end - run.start) * frame_s >= HELD_S]
        for before, run in pairwise(held):
            if before.expression == run.expression:
                continue
            onset = _smoothed_onset(run, smoothed_runs.get(face_id, []))
            flickers = [other for other in runs if before.end <= other.start <= run.start]
            starts = [other.start for other in flickers if other.expression == run.expression]
            errors.append(min((onset - start for start in starts), key=abs))
    return errors


def _smoothed_onset(run: Run, smoothed: Sequence[Run]) -> float:
    """Return the start of the smoothed run of this expression with the most overlap; infinity if none."""
    same = [other for other in smoothed if other.expression == run.expression and other.overlap(run)]
    return max(same, key=run.overlap).start if same else float("inf")


def compare_videos(videos: Sequence[Path], weights: Path | None) -> None:
    """Print label changes, onsets, shares and ids of some videos, and what happens at a cut."""
    default = Analyzer("cpu", weights)
    shown = {}
    # Weights that follow FER+ also hold a layer for FER2013's labels.
    for labels in dict.fromkeys((default.labels, FER2013)):
        print(f"labels of {labels}")
        shown[labels] = compare_labels(
            videos,
            Analyzer("cpu", weights, labels=labels, smooth_s=0),
            Analyzer("cpu", weights, labels=labels),
        )
        print()
    for path, readings in zip(videos, shown[default.labels], strict=True):
        if path.stem in LABELS_OF_VIDEOS:
            print(f"{path.stem}: faces against the people labelled by hand")
            print_score(score_people(read_people(LABELS_OF_VIDEOS[path.stem]), readings.boxes))
            print()
    print("cut from one video to another: frames until a new face is there")
    for before, after in pairwise(videos):
        delay = cut_delay(default, before, after)
        print(f"{before.stem} to {after.stem}: {'never' if delay is None else delay}", flush=True)


def compare_labels(videos: Sequence[Path], unsmoothed: Analyzer, smoothed: Analyzer) -> list[Readings]:
    """Print how smoothing changes labels, and return the smoothed readings of each video."""
    print(f"{'':20}{'face seconds':>14}{'changes a second':>18}"
          f"{'fear or sad':>13}{'shown so':>10}{'unsure':>8}")  # fmt: skip
    errors: list[float] = []
    tables = []
    for path in videos:
        before, after = read_video(unsmoothed, path), read_video(smoothed, path)
        errors += onset_errors(before, after)
        tables.append(after)
        print(path.stem)
        for name, readings in (("  unsmoothed", before), ("  default", after)):
            changes, seconds = readings.label_changes()
            print(f"{name:20}{seconds:14.1f}{changes / max(seconds, 1e-9):18.2f}"
                  f"{readings.share(WORRIED):13.1%}{readings.share_shown(WORRIED):10.1%}"
                  f"{readings.share_shown([UNSURE]):8.1%}", flush=True)  # fmt: skip
    print_onsets(errors)
    return tables


def print_onsets(errors: Sequence[float]) -> None:
    """Print how far the onsets of the default table are from those of the unsmoothed one."""
    away = np.abs([error for error in errors if np.isfinite(error)])
    print(f"onsets of expressions that hold for {HELD_S} s unsmoothed: {len(errors)}")
    print(f"onsets that smoothing removes: {len(errors) - len(away)}")
    if len(away):
        print(f"error of the others in frames: median {np.median(away):.1f}, "
              f"95th percentile {np.percentile(away, 95):.1f}, worst {away.max():.0f}; "
              f"{sum(0 < error < np.inf for error in errors)} come too late", flush=True)  # fmt: skip


def cut_delay(analyzer: Analyzer, before: Path, after: Path) -> int | None:
    """Return the frames after the cut without a face that was not there before it."""
    known: set[int] = set()
    for analyzed in analyzer.analyze_frames(_joined(before, after), SourceKind.CAMERA):
        ids = {face.id for face in analyzed.faces}
        if analyzed.frame.index >= CUT_FRAMES and ids - known:
            return analyzed.frame.index - CUT_FRAMES
        known |= ids
    return None


def _joined(before: Path, after: Path) -> Iterator[Frame]:
    """Yield frames of one video and then of another one, brought to the first one's size."""
    index, size_wh = 0, None
    for path in (before, after):
        with open_source(path) as source:
            for frame in islice(source, CUT_FRAMES):
                size_wh = size_wh or frame.bgr.shape[1::-1]
                yield Frame(cv2.resize(frame.bgr, size_wh), index, index / 25)
                index += 1
