"""Hold a recording's frames back for a moment, so that later frames help to decide what is shown.

A frame waits here with its faces and their readings until the frames of the next half second are known. Then
it is known which tracks are people, which tracks are the same person, what each face's expression is, and
where faces may be. The result for a frame depends on nothing later than `AHEAD_S` after it (`LONGEST_AHEAD_S`
if frames come slowly). So a recording that is analyzed in overlapping parts gives the same result as in one
pass.

A live source can't wait, see `NoLookAhead`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from fer_stream.detection.hiding import BEFORE_S, PossibleFaces
from fer_stream.detection.identities import CONFIRMED_S, Identities
from fer_stream.detection.tracker import TrackedFace
from fer_stream.recognition.smoothing import GUIDE_S, REACH_S, CentredSmoother, Smoother
from fer_stream.system.memory import frames_waiting
from fer_stream.types import Frame

# Pictures are held for this long. At 4K and 60 frames per second that is 30 pictures of 25 MB, 750 MB.
AHEAD_S = max(REACH_S + GUIDE_S, CONFIRMED_S, BEFORE_S)
# If frames come slowly, a frame still waits for two more, but no longer than this.
AHEAD_FRAMES, LONGEST_AHEAD_S = 2, 2.0
MOST_FRAMES = 128  # a file whose timestamps are damaged may squeeze any number of frames into half a second


@dataclass(frozen=True, eq=False)
class ReadFace:
    """A face in a frame with its reading.

    Attributes:
        tracked: The face.
        values: float32 (K,), from this frame alone: the seven probabilities, then those of other readers.
    """

    tracked: TrackedFace
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class EarlierFace:
    """A face in an earlier frame, found by following it back from the newest one.

    Attributes:
        frame: That frame.
        face: The face.
    """

    frame: Frame
    face: ReadFace


@dataclass(frozen=True, eq=False)
class ReadFrame:
    """A frame that enters the window.

    Attributes:
        frame: The frame.
        faces: Its faces.
        scene: Number of cuts before it.
        earlier: Its new faces in earlier frames, see `Backfill`.
        weak_xyxy: float32 (N, 4) px, weak detections.
    """

    frame: Frame
    faces: tuple[ReadFace, ...]
    scene: int = 0
    earlier: tuple[EarlierFace, ...] = ()
    weak_xyxy: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))


@dataclass(frozen=True, eq=False)
class IdentifiedFace:
    """A face that is shown.

    Attributes:
        id: Number of the person.
        tracked: The face in this frame.
        values: float32 (K,), the values of all readers, smoothed; see `ReadFace`.
    """

    id: int
    tracked: TrackedFace
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class DecidedFrame:
    """A frame that leaves the window.

    Attributes:
        frame: The frame.
        faces: Its people, ordered by id.
        possible_faces_xyxy: float32 (N, 4) px, every place where a face is or may be.
    """

    frame: Frame
    faces: tuple[IdentifiedFace, ...]
    possible_faces_xyxy: np.ndarray


@dataclass(eq=False)
class _Waiting:
    frame: Frame
    scene: int
    faces: list[TrackedFace] = field(default_factory=list)


class LookAhead:
    """Holds back the frames of a recording until the frames after them are known.

    Args:
        smooth_s: Time constant of the smoothing in seconds; 0 for no smoothing.
    """

    def __init__(self, smooth_s: float) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._identities = Identities()
        self._possible_faces = PossibleFaces()
        self._smoother = CentredSmoother(smooth_s)

    def add(self, read: ReadFrame) -> Iterator[DecidedFrame]:
        """Add the next frame, and yield the frames that are ready now."""
        time_s = read.frame.time_s
        while self._waiting and self._is_ready(abs(time_s - self._waiting[0].frame.time_s)):
            yield self._decide(self._waiting.popleft())
        waiting = _Waiting(read.frame, read.scene)
        self._waiting.append(waiting)
        self._identities.see([face.tracked for face in read.faces], time_s, read.scene)
        self._possible_faces.see_weak(read.weak_xyxy, time_s, read.scene)
        for face in read.faces:
            self._add_face(waiting, face)
        for earlier in read.earlier:
            self._add_earlier(earlier, read.scene)

    def rest(self) -> Iterator[DecidedFrame]:
        """Yield the waiting frames at the end of the recording."""
        while self._waiting:
            yield self._decide(self._waiting.popleft())

    def _is_ready(self, waited_s: float) -> bool:
        """Return whether the oldest frame has waited long enough if the next one comes `waited_s` later."""
        # Pictures larger than 4K wait for a shorter time: one of 8K takes 100 MB.
        most = max(AHEAD_FRAMES, frames_waiting(MOST_FRAMES, self._waiting[0].frame.bgr.nbytes))
        if len(self._waiting) > most or waited_s > LONGEST_AHEAD_S + 1e-6:
            return True
        return waited_s > AHEAD_S + 1e-6 and len(self._waiting) > AHEAD_FRAMES

    def _add_earlier(self, earlier: EarlierFace, scene: int) -> None:
        for waiting in self._waiting:
            if waiting.frame.index == earlier.frame.index and waiting.scene == scene:
                self._identities.see_earlier(earlier.face.tracked, earlier.frame.time_s)
                self._add_face(waiting, earlier.face)

    def _add_face(self, waiting: _Waiting, face: ReadFace) -> None:
        waiting.faces.append(face.tracked)
        self._possible_faces.see([face.tracked], waiting.frame.time_s, waiting.scene)
        self._smoother.add(face.tracked.track_id, face.values, waiting.frame.time_s)

    def _decide(self, waiting: _Waiting) -> DecidedFrame:
        time_s = waiting.frame.time_s
        ids = self._identities.assign_ids(waiting.faces, time_s)
        identified = [
            IdentifiedFace(face_id, face, self._smoother.at(face.track_id, time_s))
            for face_id, face in zip(ids, waiting.faces, strict=True)
            if face_id is not None
        ]
        self._smoother.forget(time_s - AHEAD_S)
        return DecidedFrame(
            waiting.frame,
            tuple(sorted(identified, key=lambda face: face.id)),
            self._possible_faces.at(time_s, waiting.scene),
        )


class NoLookAhead:
    """Decides each frame of a live source at once. A face is shown from the second frame that sees it.

    Args:
        smooth_s: Time constant of the smoothing in seconds; 0 for no smoothing.
    """

    def __init__(self, smooth_s: float) -> None:
        self._identities = Identities(confirmed_s=0.0)
        self._possible_faces = PossibleFaces(live=True)
        self._smoother = Smoother(smooth_s)

    def decide(self, read: ReadFrame) -> DecidedFrame:
        """Return the newest frame with its people."""
        time_s, tracked = read.frame.time_s, [face.tracked for face in read.faces]
        self._identities.see(tracked, time_s, read.scene)
        self._possible_faces.see(tracked, time_s, read.scene)
        self._possible_faces.see_weak(read.weak_xyxy, time_s, read.scene)
        identified = []
        for face_id, face in zip(self._identities.assign_ids(tracked, time_s), read.faces, strict=True):
            smoothed = self._smoother.smooth(face.tracked.track_id, face.values, time_s)
            if face_id is not None:
                identified.append(IdentifiedFace(face_id, face.tracked, smoothed))
        return DecidedFrame(
            read.frame,
            tuple(sorted(identified, key=lambda face: face.id)),
            self._possible_faces.at(time_s, read.scene),
        )
