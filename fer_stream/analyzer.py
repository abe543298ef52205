"""Analyzer: frames in, analyzed frames out."""

from __future__ import annotations

import atexit
import itertools
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fer_stream.analysis.lookahead import (
    DecidedFrame,
    EarlierFace,
    LookAhead,
    NoLookAhead,
    ReadFace,
    ReadFrame,
)
from fer_stream.detection.backfill import Backfill, FoundEarlier
from fer_stream.detection.detector import Detector
from fer_stream.detection.pace import LivePace, ScanEvery, ScanPace
from fer_stream.detection.tracker import TrackedFace, TrackedFrame, Tracker
from fer_stream.errors import SourceError, UsageError
from fer_stream.inference.devices import pick_device
from fer_stream.inference.threads import CORES
from fer_stream.profiling import Profile
from fer_stream.recognition.classifier import Classifier
from fer_stream.recognition.preprocessing import face_roll, face_square
from fer_stream.recognition.smoothing import DEFAULT_SMOOTH_S
from fer_stream.sources import Source, open_source
from fer_stream.system.background import Background
from fer_stream.system.memory import frames_ahead
from fer_stream.types import AnalyzedFrame, Face, Frame


@dataclass(frozen=True, eq=False)
class _Found:
    """A frame whose faces are found but not yet read.

    Attributes:
        frame: The frame.
        tracked: Its faces.
        earlier: Faces that were found with it in earlier frames.
    """

    frame: Frame
    tracked: TrackedFrame
    earlier: tuple[FoundEarlier, ...] = ()


DEFAULT_MIN_FACE = 40
DEFAULT_BATCH = 8  # frames of a recording whose faces are read together
LAST_FRAME_S = 10.0  # longest wait for the frame in progress when an analysis is abandoned


class Analyzer:
    """Finds every face, follows it, and reads its expression.

    Use it in one thread and for one source at a time.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        weights: A checkpoint of fer-train; None for the built-in one.
        labels: The annotation to follow, `ferplus` or `fer2013`; None for FER+ if the weights have it.
        unsure_below: A face whose best probability is below this (0 to 1) is unsure. 0 turns this off; None
            takes the threshold of the weights.
        min_face: Side in px of the smallest face to find.
        scan_every: Search the whole frame for faces at least every this many frames of a video. `auto`
            searches a live source as often as the machine keeps up with, and a recording every 10 frames, or
            every 3 while there are three faces or more, even on a slow machine.
        smooth_s: Time constant in seconds of the smoothing of probabilities; 0 for no smoothing.
        batch: Frames of a recording in work at a time. The faces of one half are read together while the
            other half is searched.
        threads: CPU threads of each stage of the analysis; 0 for one per core. With 1, everything runs in the
            calling thread.
        cautious: Also count weak detections among `AnalyzedFrame.possible_faces_xyxy`, for `--blur`.
        profile: Receives the time of each stage.

    Raises:
        WeightsError: The weights can't be used, or lack the annotation's layer.
        UsageError: There is no such device, annotation or threshold.
    """

    def __init__(
        self,
        device: str = "auto",
        weights: str | Path | None = None,
        *,
        labels: str | None = None,
        unsure_below: float | None = None,
        min_face: int = DEFAULT_MIN_FACE,
        scan_every: ScanEvery = "auto",
        smooth_s: float = DEFAULT_SMOOTH_S,
        batch: int = DEFAULT_BATCH,
        threads: int = 0,
        cautious: bool = False,
        profile: Profile | None = None,
    ) -> None:
        if unsure_below is not None and not 0 <= unsure_below <= 1:
            raise UsageError(f"unsure_below is a probability from 0 to 1, not {unsure_below}")
        self.device = pick_device(device)
        self._classifier = Classifier(
            self.device, weights=None if weights is None else Path(weights), labels=labels, threads=threads
        )
        self._unsure_below = self._classifier.unsure_below if unsure_below is None else unsure_below
        self._detector = Detector(self.device, min_face=min_face, threads=threads, cautious=cautious)
        self._scan_every = scan_every
        self._smooth_s = smooth_s
        self._batch = batch
        self._side_by_side = (threads or CORES) > 1
        self._profile = profile or Profile()

    @property
    def crop_scale(self) -> float:
        """Side of the network's crop over the longer side of a face's box."""
        return self._classifier.input.crop_scale

    @property
    def labels(self) -> str:
        """The annotation that the probabilities follow, `ferplus` or `fer2013`."""
        return self._classifier.labels

    @property
    def unsure_below(self) -> float:
        """The probability below which a face is unsure; 0: never."""
        return self._unsure_below

    def analyze(self, image_bgr: np.ndarray) -> tuple[Face, ...]:
        """Analyze one picture by itself.

        Args:
            image_bgr: uint8 (H, W, 3).

        Returns:
            Its faces, from left to right; ids count from 1.

        Raises:
            SourceError: The picture is None, as OpenCV returns for a file that it can't read.
            ValueError: The array has another type or shape.
        """
        if image_bgr is None:
            raise SourceError(
                "the picture could not be read: OpenCV gives None for a missing or damaged file"
            )
        return next(self.analyze_frames([Frame(image_bgr, 0, 0.0)], "images")).faces

    def stream(self, source: Source | str | Path | int) -> Iterator[AnalyzedFrame]:
        """Analyze every frame of a source, in order.

        Args:
            source: What `open_source` returns, which stays the caller's to close, or what it takes.

        Yields:
            The frames with their faces. A recording is read half a second ahead of the frame that is yielded.

        Raises:
            SourceError: The source can't be opened, or ended in an error.
        """
        with ExitStack() as stack:
            if not isinstance(source, Source):
                source = stack.enter_context(open_source(source))
            yield from self.analyze_frames(source, source.info.kind)

    def analyze_frames(self, frames: Iterable[Frame], kind: str) -> Generator[AnalyzedFrame, None, None]:
        """Analyze frames that come from a source of the given kind, see `SourceInfo.kind`.

        The frames of a recording, kind `video`, are read ahead in another thread until the returned generator
        ends or is closed. They come out half a second late, see `lookahead`. Frames of a live source come out
        at once, and a face is shown from the second frame that sees it.
        """
        if kind == "images":
            for frame in frames:
                yield self._analyze_picture(frame)
        elif kind == "video":
            yield from self._analyze_recording(frames)
        else:
            yield from self._analyze_live(frames)

    def _analyze_picture(self, frame: Frame) -> AnalyzedFrame:
        """Analyze a picture by itself: other people, other ids."""
        with self._profile.stage("detect"):
            tracked = Tracker(self._detector).update(frame.bgr, frame.time_s)
        (read,) = self._read([_Found(frame, tracked)])
        faces = [
            self._face(face.tracked.track_id, face.tracked, face.probabilities)
            for face in read.faces
            if face.probabilities is not None
        ]
        boxes = np.array([face.box_xyxy for face in faces], np.float32).reshape(-1, 4)
        return AnalyzedFrame(frame, tuple(faces), np.concatenate([boxes, read.weak_xyxy]))

    def _analyze_recording(self, frames: Iterable[Frame]) -> Iterator[AnalyzedFrame]:
        """Analyze some frames at a time; on several cores, the next are searched while those are read."""
        left = threading.Event()
        found = self._find(_until(left, frames), max(1, self._batch // 2))
        look_ahead = LookAhead(self._smooth_s)
        with ExitStack() as stack:
            if self._side_by_side:
                background = Background(found, queue_size=1)
                found = iter(background)

                def leave() -> None:
                    left.set()  # before the thread is waited for
                    background.close(LAST_FRAME_S)

                # A generator that a program has left half read is closed when threads run no more.
                atexit.register(leave)
                stack.callback(atexit.unregister, leave)
                stack.callback(leave)
            ended: Exception | None = None
            while ended is None:
                try:
                    some = next(found, None)
                except Exception as error:  # of the source: what came before it comes out first
                    ended = error
                    break
                if some is None:
                    break
                for read in self._read(some):
                    yield from map(self._decided, look_ahead.add(read))
            yield from map(self._decided, look_ahead.rest())
            if ended is not None:
                raise ended

    def _analyze_live(self, frames: Iterable[Frame]) -> Iterator[AnalyzedFrame]:
        """Analyze each frame as it comes, because a live source can't wait for more."""
        live_pace = LivePace() if self._scan_every == "auto" else None
        tracker: Tracker | None = None
        decider = NoLookAhead(self._smooth_s)
        for frame in frames:
            if tracker is None:
                tracker = Tracker(
                    self._detector,
                    live_pace or self._pace(),
                    # A pace that changes has no fixed frames to scan.
                    first_index=None if live_pace else frame.index,
                    scans_ahead=live_pace is not None,
                )
            began_s = time.perf_counter()
            tracked = tracker.update(frame.bgr, frame.time_s)
            found_s = time.perf_counter() - began_s
            self._profile.add("detect", found_s)
            (read,) = self._read([_Found(frame, tracked)])
            analyzed = self._decided(decider.decide(read))
            analysis_s = time.perf_counter() - began_s
            yield analyzed
            if live_pace:  # handed out first, scanned afterwards
                began_s = time.perf_counter()
                scanned_ahead = tracker.scan_ahead()
                ahead_s = time.perf_counter() - began_s
                self._profile.add("scan ahead", ahead_s)
                live_pace.note(frame, analysis_s + ahead_s, scanned=tracked.scanned or scanned_ahead)

    def _pace(self) -> ScanPace:
        return ScanPace(None if self._scan_every == "auto" else self._scan_every)

    def _find(self, frames: Iterable[Frame], batch: int) -> Iterator[list[_Found]]:
        """Find the faces in the frames of one recording; hand out `batch` frames at once, or fewer."""
        tracker: Tracker | None = None
        backfill = Backfill(self._detector)
        iterator = iter(frames)
        ended: Exception | None = None
        while ended is None:
            found: list[_Found] = []
            try:
                for frame in itertools.islice(iterator, batch):
                    tracker = tracker or Tracker(self._detector, self._pace(), first_index=frame.index)
                    with self._profile.stage("detect"):
                        tracked = tracker.update(frame.bgr, frame.time_s)
                        found.append(_Found(frame, tracked, backfill.earlier(frame, tracked)))
                    faces = sum(len(one.tracked.faces) + len(one.earlier) for one in found)
                    most = frames_ahead(batch, frame.bgr.nbytes)
                    if faces >= self._classifier.enough_faces or len(found) >= most:
                        break
            except Exception as error:  # of the source: what came before it is analyzed first
                ended = error
            if not found:
                break
            yield found
        if ended is not None:
            raise ended

    def _read(self, found: list[_Found]) -> list[ReadFrame]:
        """Read all faces of some frames in one batch."""
        began_s = time.perf_counter()
        crops = []
        for one in found:
            faces = [(one.frame, face) for face in one.tracked.faces]
            faces += [(earlier.frame, earlier.face) for earlier in one.earlier]
            crops += [
                self._classifier.crop(
                    frame.bgr, face_square(face.box_xyxy, self.crop_scale), face_roll(face.landmarks_xy)
                )
                for frame, face in faces
            ]
        probabilities = iter(self._classifier.probabilities(np.stack(crops)) if crops else ())
        self._profile.add("classify", time.perf_counter() - began_s, frames=len(found))
        return [
            ReadFrame(
                one.frame,
                tuple(ReadFace(face, next(probabilities)) for face in one.tracked.faces),
                one.tracked.scene,
                tuple(
                    EarlierFace(earlier.frame, ReadFace(earlier.face, next(probabilities)))
                    for earlier in one.earlier
                ),
                one.tracked.weak_xyxy,
            )
            for one in found
        ]

    def _decided(self, decided: DecidedFrame) -> AnalyzedFrame:
        faces = [self._face(face.id, face.tracked, face.probabilities) for face in decided.faces]
        return AnalyzedFrame(decided.frame, tuple(faces), decided.possible_faces_xyxy)

    def _face(self, face_id: int, tracked: TrackedFace, smoothed: np.ndarray) -> Face:
        return Face(
            face_id,
            tracked.box_xyxy,
            tracked.landmarks_xy,
            tracked.score,
            smoothed,
            unsure=float(smoothed.max()) < self._unsure_below,
        )


def _until(left: threading.Event, frames: Iterable[Frame]) -> Iterator[Frame]:
    """Pass frames on until nobody wants them any more."""
    for frame in frames:
        if left.is_set():
            return
        yield frame
