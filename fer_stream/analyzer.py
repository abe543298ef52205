"""Analyzer: frames in, analyzed frames out."""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from fer_stream.classifier import Classifier
from fer_stream.detector import Detector
from fer_stream.errors import FerStreamError
from fer_stream.pace import LivePace, ScanEvery, ScanPace
from fer_stream.pixels import upload
from fer_stream.preprocessing import face_roll, face_square, network_input
from fer_stream.profiling import Profile
from fer_stream.runtime import pick_device
from fer_stream.smoothing import DEFAULT_SMOOTH_S, Smoother
from fer_stream.sources import Source, open_source
from fer_stream.tracker import TrackedFace, Tracker
from fer_stream.types import AnalyzedFrame, Face, Frame

DEFAULT_MIN_FACE = 40
DEFAULT_BATCH = 8  # frames of a recording whose faces go through the network together
# Faces that are read at once, whatever the batch: on a CPU more gain nothing, and who draws and encodes
# the frames would wait for them. On a GPU more gain much.
ENOUGH_FACES_ON_CPU = 16


class Analyzer:
    """Finds every face, follows it, and reads its expression.

    Not for use by two threads at once.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        weights: A checkpoint of fer-train; the built-in one where None.
        min_face: Side in px of the smallest face to find.
        scan_every: A full search for faces at least every this many frames of a video. `auto` finds
            the rate that keeps up with a live source; a recording is searched every 10 frames, and every
            4 while there are three faces or more, however slow the machine; on a GPU every frame.
        smooth_s: Time constant in seconds of the smoothing of probabilities; 0 is none.
        batch: Frames of a recording whose faces go through the network together, at most.
        threads: CPU threads of the analysis; 0 takes one a core.
        profile: Gets the time of each stage.

    Raises:
        WeightsError: The weights can't be used.
        UsageError: There is no such device.
    """

    def __init__(
        self,
        device: str = "auto",
        weights: str | Path | None = None,
        *,
        min_face: int = DEFAULT_MIN_FACE,
        scan_every: ScanEvery = "auto",
        smooth_s: float = DEFAULT_SMOOTH_S,
        batch: int = DEFAULT_BATCH,
        threads: int = 0,
        profile: Profile | None = None,
    ) -> None:
        self.device = pick_device(device)
        self._classifier = Classifier(
            self.device, weights=None if weights is None else Path(weights), threads=threads
        )
        self._detector = Detector(self.device, min_face=min_face, threads=threads)
        self._scan_every = scan_every
        self._smooth_s = smooth_s
        self._batch = batch
        self._profile = profile or Profile()

    @property
    def crop_scale(self) -> float:
        """Side of the network's crop over the longer side of a face's box."""
        return self._classifier.input.crop_scale

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
        """Analyzes frames that come from a source of the given kind, see `SourceInfo.kind`."""
        if kind == "images":
            for frame in frames:  # each picture is by itself: other people, other ids
                yield from self._analyze_video([frame], ScanPace(), batch=1)
            return
        live = kind != "video"
        pace = ScanPace()
        if self._scan_every != "auto":
            pace.every = self._scan_every
        elif live:
            pace = LivePace()
        # What is live can't wait for more frames to come.
        batch = 1 if live else self._batch
        # Following goes frame by frame, which would leave a GPU waiting.
        scans_batches = self.device != "cpu" and not live and self._scan_every == "auto"
        yield from self._analyze_video(frames, pace, batch=batch, scans_batches=scans_batches)

    def _analyze_video(
        self,
        frames: Iterable[Frame],
        pace: ScanPace,
        *,
        batch: int,
        scans_batches: bool = False,
    ) -> Iterator[AnalyzedFrame]:
        """Analyzes consecutive frames of one video, `batch` at a time.

        With `scans_batches` every frame is scanned, all of a batch at once; else each is searched as
        it comes, and scanned at that pace; with a `LivePace` it is handed out first and scanned afterwards.
        """
        live_pace = pace if isinstance(pace, LivePace) else None
        tracker: Tracker | None = None
        smoother = Smoother(self._smooth_s)
        iterator = iter(frames)
        ended: FerStreamError | None = None
        while ended is None:
            chunk, tracked, uploaded = [], [], []
            detect_s, faces_count = 0.0, 0
            try:
                for frame in itertools.islice(iterator, batch):
                    chunk.append(frame)
                    if tracker is None:
                        tracker = Tracker(
                            self._detector,
                            pace,
                            # A pace that changes has no fixed frames to scan.
                            first_index=None if live_pace else frame.index,
                            scans_ahead=live_pace is not None,
                        )
                    began_s = time.perf_counter()
                    if scans_batches:  # it travels while the next one is decoded
                        uploaded.append(upload(frame.bgr, self.device))
                        continue
                    tracked.append(tracker.update(frame.bgr, frame.time_s))
                    detect_s = time.perf_counter() - began_s
                    self._profile.add("detect", detect_s)
                    faces_count += len(tracked[-1])
                    if self.device == "cpu" and faces_count >= ENOUGH_FACES_ON_CPU:
                        break
            except FerStreamError as error:  # of the source: what came before it is analyzed first
                ended = error
            if not chunk or tracker is None:
                break
            if scans_batches:
                began_s = time.perf_counter()
                tracked = [
                    tracker.update(frame.bgr, frame.time_s, found)
                    for frame, found in zip(chunk, self._detector.scan_batch(uploaded), strict=True)
                ]
                self._profile.add("detect", time.perf_counter() - began_s, frames=len(chunk))
            began_s = time.perf_counter()
            probabilities = self._classify(chunk, tracked)
            classify_s = time.perf_counter() - began_s
            self._profile.add("classify", classify_s, frames=len(chunk))
            for frame, faces in zip(chunk, tracked, strict=True):
                yield AnalyzedFrame(
                    frame,
                    tuple(
                        Face(
                            face.id,
                            face.box_xyxy,
                            face.landmarks_xy,
                            face.score,
                            smoother.smooth(face.id, next(probabilities), frame.time_s),
                        )
                        for face in faces
                    ),
                )
            if live_pace:  # frame by frame
                began_s = time.perf_counter()
                tracker.scan_ahead()
                ahead_s = time.perf_counter() - began_s
                self._profile.add("scan ahead", ahead_s)
                live_pace.note(chunk[-1], detect_s + classify_s + ahead_s, scanned=tracker.scanned)

        if ended is not None:
            raise ended

    def _classify(self, frames: list[Frame], tracked: list[list[TrackedFace]]) -> Iterator[np.ndarray]:
        """Reads all faces of some frames in one batch; returns float32 (7,) for each, in order."""
        spec = self._classifier.input
        crops = [
            network_input(
                frame.bgr, face_square(face.box_xyxy, spec.crop_scale), spec, face_roll(face.landmarks_xy)
            )
            for frame, faces in zip(frames, tracked, strict=True)
            for face in faces
        ]
        if not crops:
            return iter(())
        return iter(self._classifier.probabilities(np.stack(crops)))
