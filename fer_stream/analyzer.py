"""Analyzer: frames in, analyzed frames out."""

from __future__ import annotations

import atexit
import itertools
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_stream.detection.detector import Detector
from fer_stream.detection.pace import LivePace, ScanEvery, ScanPace
from fer_stream.detection.pixels import upload
from fer_stream.detection.tracker import TrackedFace, Tracker
from fer_stream.errors import UsageError
from fer_stream.inference.runtime import pick_device
from fer_stream.inference.threads import CORES, WORKERS
from fer_stream.profiling import Profile
from fer_stream.recognition.classifier import MOST_ON_CPU, Classifier
from fer_stream.recognition.preprocessing import face_roll, face_square, network_input
from fer_stream.recognition.smoothing import DEFAULT_SMOOTH_S, Smoother
from fer_stream.sources import Source, open_source
from fer_stream.system.background import Background
from fer_stream.types import AnalyzedFrame, Face, Frame

if TYPE_CHECKING:
    import torch

_Found = tuple[Frame, list[TrackedFace]]

DEFAULT_MIN_FACE = 40
DEFAULT_BATCH = 8  # frames of a recording whose faces go through the network together
# Once there are so many faces on a CPU, no frame is waited for to read them: more at once gain nothing, and
# who draws and encodes the frames would wait.
ENOUGH_FACES_ON_CPU = WORKERS * MOST_ON_CPU
LAST_FRAME_S = 10.0  # for the frame that is worked on when an analysis is left


class Analyzer:
    """Finds every face, follows it, and reads its expression.

    Not for use by two threads at once, and for one recording at a time.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        weights: A checkpoint of fer-train; the built-in one where None.
        labels: The annotation to follow, `ferplus` or `fer2013`. None: FER+ where the weights have it.
        unsure_below: A face whose best probability is below this is unsure, 0 to 1; 0: never. None: as the
            weights say.
        min_face: Side in px of the smallest face to find.
        scan_every: A full search for faces at least every this many frames of a video. `auto` finds
            the rate that keeps up with a live source; a recording is searched every 10 frames, and every
            3 while there are three faces or more, however slow the machine; on a GPU every frame.
        smooth_s: Time constant in seconds of the smoothing of probabilities; 0 is none.
        batch: Frames of a recording that are worked on together on a GPU; half of them on a CPU, where the
            next are searched while the faces of the last are read.
        threads: CPU threads of each stage of the analysis; 0 takes one a core. With 1 it all runs in the
            thread that calls.
        profile: Gets the time of each stage.

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
        profile: Profile | None = None,
    ) -> None:
        if unsure_below is not None and not 0 <= unsure_below <= 1:
            raise UsageError(f"unsure_below is a probability from 0 to 1, not {unsure_below}")
        self.device = pick_device(device)
        self._classifier = Classifier(
            self.device, weights=None if weights is None else Path(weights), labels=labels, threads=threads
        )
        self._unsure_below = self._classifier.unsure_below if unsure_below is None else unsure_below
        self._detector = Detector(self.device, min_face=min_face, threads=threads)
        self._scan_every = scan_every
        self._smooth_s = smooth_s
        self._batch = batch
        self._side_by_side = self.device == "cpu" and (threads or CORES) > 1
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
        """Analyzes one picture by itself.

        Args:
            image_bgr: uint8 (H, W, 3).

        Returns:
            Its faces, from left to right; ids count from 1.
        """
        return next(self.analyze_frames([Frame(image_bgr, 0, 0.0)], "images")).faces

    def stream(self, source: Source | str | Path | int) -> Iterator[AnalyzedFrame]:
        """Analyzes every frame of a source, in order.

        Args:
            source: What `open_source` returns, which stays the caller's to close, or what it takes.

        Yields:
            The frames as they are analyzed.

        Raises:
            SourceError: The source can't be opened, or ended in an error.
        """
        with ExitStack() as stack:
            if not isinstance(source, Source):
                source = stack.enter_context(open_source(source))
            yield from self.analyze_frames(source, source.info.kind)

    def analyze_frames(self, frames: Iterable[Frame], kind: str) -> Generator[AnalyzedFrame, None, None]:
        """Analyzes frames that come from a source of the given kind, see `SourceInfo.kind`.

        Those of a recording, kind `video`, are read ahead in another thread until the returned generator
        ends or is closed.
        """
        if kind == "images":
            for frame in frames:  # each picture is by itself: other people, other ids
                for found in self._find([frame], ScanPace(), batch=1):
                    yield from self._read(found, Smoother(self._smooth_s))
        elif kind == "video":
            yield from self._analyze_recording(frames)
        else:
            yield from self._analyze_live(frames)

    def _analyze_recording(self, frames: Iterable[Frame]) -> Iterator[AnalyzedFrame]:
        """Analyzes some frames at a time; on several cores, the next are searched while those are read."""
        # Following goes frame by frame, which would leave a GPU waiting.
        scans_batches = self.device != "cpu" and self._scan_every == "auto"
        batch = max(1, self._batch // 2) if self.device == "cpu" else self._batch
        left = threading.Event()
        found = self._find(_until(left, frames), self._pace(), batch=batch, scans_batches=scans_batches)
        smoother = Smoother(self._smooth_s)
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
            for some in found:
                yield from self._read(some, smoother)

    def _analyze_live(self, frames: Iterable[Frame]) -> Iterator[AnalyzedFrame]:
        """Analyzes each frame as it comes, for what is live can't wait for more."""
        live_pace = LivePace() if self._scan_every == "auto" else None
        tracker: Tracker | None = None
        smoother = Smoother(self._smooth_s)
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
            faces = tracker.update(frame.bgr, frame.time_s)
            found_s = time.perf_counter() - began_s
            self._profile.add("detect", found_s)
            analyzed = self._read([(frame, faces)], smoother)
            analysis_s = time.perf_counter() - began_s
            yield from analyzed
            if live_pace:  # handed out first, scanned afterwards
                began_s = time.perf_counter()
                tracker.scan_ahead()
                ahead_s = time.perf_counter() - began_s
                self._profile.add("scan ahead", ahead_s)
                live_pace.note(frame, analysis_s + ahead_s, scanned=tracker.scanned)

    def _pace(self) -> ScanPace:
        return ScanPace(None if self._scan_every == "auto" else self._scan_every)

    def _find(
        self, frames: Iterable[Frame], pace: ScanPace, *, batch: int, scans_batches: bool = False
    ) -> Iterator[list[_Found]]:
        """Finds the faces in consecutive frames of one video; hands out `batch` frames at once, or fewer.

        With `scans_batches` every frame is scanned, all of a batch at once; else each is searched as
        it comes, and scanned at that pace.
        """
        tracker: Tracker | None = None
        iterator = iter(frames)
        ended: Exception | None = None
        while ended is None:
            chunk: list[Frame] = []
            uploaded: list[torch.Tensor] = []
            found: list[_Found] = []
            try:
                for frame in itertools.islice(iterator, batch):
                    tracker = tracker or Tracker(self._detector, pace, first_index=frame.index)
                    if scans_batches:  # it travels while the next one is decoded
                        uploaded.append(upload(frame.bgr, self.device))
                        chunk.append(frame)
                        continue
                    with self._profile.stage("detect"):
                        found.append((frame, tracker.update(frame.bgr, frame.time_s)))
                    if self.device == "cpu" and sum(len(faces) for _, faces in found) >= ENOUGH_FACES_ON_CPU:
                        break
            except Exception as error:  # of the source: what came before it is analyzed first
                ended = error
            if chunk and tracker is not None:
                began_s = time.perf_counter()
                found = [
                    (frame, tracker.update(frame.bgr, frame.time_s, scanned))
                    for frame, scanned in zip(chunk, self._detector.scan_batch(uploaded), strict=True)
                ]
                self._profile.add("detect", time.perf_counter() - began_s, frames=len(chunk))
            if not found:
                break
            yield found
        if ended is not None:
            raise ended

    def _read(self, found: list[_Found], smoother: Smoother) -> list[AnalyzedFrame]:
        """Reads all faces of some frames in one batch."""
        began_s = time.perf_counter()
        spec = self._classifier.input
        crops = [
            network_input(
                frame.bgr, face_square(face.box_xyxy, spec.crop_scale), spec, face_roll(face.landmarks_xy)
            )
            for frame, faces in found
            for face in faces
        ]
        probabilities = iter(self._classifier.probabilities(np.stack(crops)) if crops else ())
        self._profile.add("classify", time.perf_counter() - began_s, frames=len(found))
        return [
            AnalyzedFrame(
                frame,
                tuple(
                    self._face(face, smoother.smooth(face.id, next(probabilities), frame.time_s))
                    for face in faces
                ),
            )
            for frame, faces in found
        ]

    def _face(self, face: TrackedFace, smoothed: np.ndarray) -> Face:
        return Face(
            face.id,
            face.box_xyxy,
            face.landmarks_xy,
            face.score,
            smoothed,
            unsure=float(smoothed.max()) < self._unsure_below,
        )


def _until(left: threading.Event, frames: Iterable[Frame]) -> Iterator[Frame]:
    """Passes frames on until nobody wants them any more."""
    for frame in frames:
        if left.is_set():
            return
        yield frame
