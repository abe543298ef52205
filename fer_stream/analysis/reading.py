"""The second stage of the analysis: read the faces that were found.

Reading a face takes longer than following it, and its expression seldom changes from one frame to the next.
So in a recording, every face is read once in `READ_EVERY_S`. If two readings in a row differ so much that
the label or the most probable expression may change between them, the frame halfway is read as well, and so
on in each half. So a change keeps its time. The other frames get values interpolated between those of their
neighbours. docs/speed.md compares the result with that of reading every frame.

The readings are due at fixed times of the recording, so that parts of it that are analyzed separately read
the same frames.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from fer_stream.analysis.finding import FoundFrame
from fer_stream.analysis.lookahead import EarlierFace, ReadFace, ReadFrame
from fer_stream.detection.tracker import TrackedFace
from fer_stream.expressions import EXPRESSIONS
from fer_stream.profiling import Profile
from fer_stream.recognition.readers import FaceReader
from fer_stream.system.error_last import ErrorLast
from fer_stream.system.memory import LARGE_FRAME_BYTES
from fer_stream.types import Frame

READ_EVERY_S = 0.2  # five frames at 25 frames per second
READ_EVERY_SHARE = 2 / 3  # or this share of the time constant of the smoothing, if that is shorter
# Whatever the frame rate, at least every 8th frame is read, because the frames between hold their pictures.
MOST_UNREAD = 8
# Two readings differ by a total variation. If it is more than this share of the smallest one that would give
# either of them another label or most probable expression, a frame between them is read as well.
MARGIN_SHARE = 0.7


@dataclass(eq=False)
class _FaceToRead:
    """A face on its way through this stage.

    Attributes:
        frame: Its frame.
        face: The face.
        values: float32 (K,), the values of all readers; None until it is read, or interpolated between its
            neighbours.
    """

    frame: Frame
    face: TrackedFace
    values: np.ndarray | None = None

    def as_read(self) -> ReadFace:
        """Return the face with its values."""
        assert self.values is not None
        return ReadFace(self.face, self.values)


@dataclass(eq=False)
class _WaitingFrame:
    found: FoundFrame
    faces: list[_FaceToRead]
    earlier: list[_FaceToRead]

    def is_read(self) -> bool:
        return all(face.values is not None for face in self.faces)

    def as_read(self) -> ReadFrame:
        tracked = self.found.tracked
        return ReadFrame(
            self.found.frame,
            tuple(face.as_read() for face in self.faces),
            tracked.scene,
            tuple(EarlierFace(face.frame, face.as_read()) for face in self.earlier),
            tracked.weak_xyxy,
        )


def _waiting(found: FoundFrame) -> _WaitingFrame:
    return _WaitingFrame(
        found,
        [_FaceToRead(found.frame, face) for face in found.tracked.faces],
        [_FaceToRead(earlier.frame, earlier.face) for earlier in found.earlier],
    )


def _read(faces: Sequence[_FaceToRead], readers: Sequence[FaceReader]) -> None:
    """Give these faces their values, in one batch for each reader."""
    if not faces:
        return
    by_reader = []
    for reader in readers:
        crops = [reader.crop(each.frame.bgr, each.face.box_xyxy, each.face.landmarks_xy) for each in faces]
        by_reader.append(reader.read(np.stack(crops)))
    for face, values in zip(faces, np.concatenate(by_reader, axis=1), strict=True):
        face.values = values


def read_every_face(found: FoundFrame, readers: Sequence[FaceReader], profile: Profile) -> ReadFrame:
    """Read all faces of a frame, for pictures and live sources.

    Args:
        found: The frame.
        readers: The reader of the expression, then any others.
        profile: Receives the time.
    """
    waiting = _waiting(found)
    with profile.stage("classify"):
        _read([*waiting.faces, *waiting.earlier], readers)
    return waiting.as_read()


def read_recording(
    found: Iterable[list[FoundFrame]],
    readers: Sequence[FaceReader],
    smooth_s: float,
    unsure_below: float,
    profile: Profile,
) -> Iterator[ReadFrame]:
    """Read the faces of a recording, see the module's docstring.

    Args:
        found: The frames, a few at a time.
        readers: The reader of the expression, then any others.
        smooth_s: Time constant of the smoothing in seconds; with 0, every face is read in every frame.
        unsure_below: See `Analyzer`.
        profile: Receives the time.

    Yields:
        The frames, in order, up to `READ_EVERY_S` late.
    """
    reading = _RecordingReading(readers, unsure_below, min(READ_EVERY_S, READ_EVERY_SHARE * smooth_s))
    error_last = ErrorLast(found)
    for batch in error_last:
        began_s = time.perf_counter()
        ready = reading.add(batch)
        profile.add("classify", time.perf_counter() - began_s, frames=len(batch))
        yield from ready
    yield from reading.rest()
    error_last.raise_error()


@dataclass(eq=False)
class _Rhythm:
    """Decides in which frames every face is read, from the frames' times alone.

    Attributes:
        every_s: Time from one reading to the next; 0: every frame.
    """

    every_s: float
    _slot: int | None = None
    _frames_in_slot: int = 0

    def is_due(self, frame: Frame) -> bool:
        """Return whether the faces of the next frame are read."""
        # Frames between two readings wait for the second one. Large ones take too much memory for that.
        if self.every_s <= 0 or frame.bgr.nbytes > LARGE_FRAME_BYTES:
            return True
        slot = int(frame.time_s / self.every_s + 1e-6)
        self._frames_in_slot = 0 if slot != self._slot else self._frames_in_slot + 1
        self._slot = slot
        return self._frames_in_slot % MOST_UNREAD == 0


@dataclass(eq=False)
class _RecordingReading:
    """Holds the frames whose faces are not all read yet.

    Attributes:
        readers: The readers.
        unsure_below: See `Analyzer`.
        every_s: See `_Rhythm`.
    """

    readers: Sequence[FaceReader]
    unsure_below: float
    every_s: float
    _waiting: deque[_WaitingFrame] = field(default_factory=deque)
    # For each face of the newest frame, its sightings since its latest reading.
    _runs: dict[int, list[_FaceToRead]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rhythm = _Rhythm(self.every_s)

    def add(self, found: Sequence[FoundFrame]) -> list[ReadFrame]:
        """Add the next frames, and return the frames that are read now."""
        complete: list[list[_FaceToRead]] = []  # runs whose last face is read now
        earlier: list[_FaceToRead] = []
        for found_frame in found:
            waiting = _waiting(found_frame)
            self._waiting.append(waiting)
            earlier += waiting.earlier
            due = self._rhythm.is_due(found_frame.frame)
            runs = {}
            for face in waiting.faces:
                run = [*self._runs.pop(face.face.track_id, ()), face]
                if due or len(run) == 1:
                    complete.append(run)
                    run = [face]
                runs[face.face.track_id] = run
            complete += self._ended_runs()
            self._runs = runs
        return self._ready(earlier, complete)

    def rest(self) -> list[ReadFrame]:
        """Return the waiting frames at the end of the recording."""
        return self._ready([], self._ended_runs())

    def _ended_runs(self) -> list[list[_FaceToRead]]:
        """Return the runs of faces that have left, if their last face is not read yet."""
        return [run for run in self._runs.values() if len(run) > 1]

    def _ready(self, earlier: list[_FaceToRead], complete: list[list[_FaceToRead]]) -> list[ReadFrame]:
        """Read the last face of each of these runs, and return the frames whose faces all have values."""
        _read([*earlier, *(run[-1] for run in complete)], self.readers)
        self._fill(complete)
        ready = []
        while self._waiting and self._waiting[0].is_read():
            ready.append(self._waiting.popleft().as_read())
        return ready

    def _fill(self, runs: list[list[_FaceToRead]]) -> None:
        """Give values to the faces between the two ends of each run, which are read."""
        while runs:
            middles: list[_FaceToRead] = []
            halves: list[list[_FaceToRead]] = []
            for run in runs:
                if len(run) > 2 and _may_change(run, self.unsure_below):
                    middle = len(run) // 2
                    middles.append(run[middle])
                    halves += [run[: middle + 1], run[middle:]]
                else:
                    _interpolate(run)
            _read(middles, self.readers)
            runs = halves


def _may_change(run: Sequence[_FaceToRead], unsure_below: float) -> bool:
    """Return whether the label or the most probable expression may change between the two ends of a run."""
    first, last = run[0].values, run[-1].values
    assert first is not None and last is not None
    first, last = first[: len(EXPRESSIONS)], last[: len(EXPRESSIONS)]
    difference = float(np.abs(first - last).sum()) / 2
    return difference > MARGIN_SHARE * min(_margin(first, unsure_below), _margin(last, unsure_below))


def _margin(probabilities: np.ndarray, unsure_below: float) -> float:
    """Return the smallest total variation (0 to 1) that would change a face's label or best expression.

    The table has the most probable expression even while a face is unsure.
    """
    second, best = map(float, np.sort(probabilities)[-2:])
    return min(abs(best - unsure_below), (best - second) / 2)


def _interpolate(run: Sequence[_FaceToRead]) -> None:
    """Interpolate the values of the faces between the two ends of a run."""
    first, last = run[0], run[-1]
    assert first.values is not None and last.values is not None
    elapsed_s = last.frame.time_s - first.frame.time_s
    for face in run[1:-1]:
        share = np.float32((face.frame.time_s - first.frame.time_s) / elapsed_s if elapsed_s > 0 else 0)
        face.values = (1 - share) * first.values + share * last.values
