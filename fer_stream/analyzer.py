"""The Analyzer: frames go in, analyzed frames come out."""

from __future__ import annotations

import atexit
import itertools
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from fer_stream.analysis.finding import LiveFinder, find_in_picture, find_in_recording
from fer_stream.analysis.lookahead import DecidedFrame, LookAhead, NoLookAhead
from fer_stream.analysis.reading import read_every_face, read_recording
from fer_stream.detection.detector import Detector, FaceDetector
from fer_stream.detection.pace import ScanEvery
from fer_stream.detection.tracker import TrackedFace
from fer_stream.errors import SourceError, UsageError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.inference.devices import pick_device
from fer_stream.inference.threads import early_scan_threads, splits_early_scans
from fer_stream.profiling import Profile
from fer_stream.ranges import BATCH, MIN_FACE, SCAN_EVERY, SMOOTH_S, THREADS, UNSURE_BELOW
from fer_stream.recognition.classifier import Classifier
from fer_stream.recognition.readers import OTHER_READERS, FaceReader
from fer_stream.recognition.smoothing import DEFAULT_SMOOTH_S
from fer_stream.sources import Source, SourceKind, open_source
from fer_stream.system.background import Background
from fer_stream.system.cores import CORES
from fer_stream.system.error_last import ErrorLast
from fer_stream.system.memory import FOUR_K_BYTES, one_at_a_time
from fer_stream.types import AnalyzedFrame, Face, Frame

DEFAULT_MIN_FACE = 40
DEFAULT_BATCH = 8  # frames of a recording that are processed at a time
LAST_FRAME_S = 10.0  # longest wait for the frame in progress when a caller abandons the analysis
SHORTEST_SMOOTH_S = 0.001  # a shorter time constant is no smoothing


class Analyzer:
    """Finds every face, follows it, and reads its expression.

    Use it in one thread and for one source at a time.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        weights: A checkpoint of fer-train; None for the built-in one.
        labels: The annotation to follow, `ferplus` or `fer2013`; None for FER+ if the weights have it.
        unsure_below: A face whose best probability is below this (0 to 1) is unsure. 0 turns this off; None
            uses the threshold of the weights.
        min_face: Side in px of the smallest face to find, 12 or more.
        scan_every: Search the whole frame for faces at least every this many frames of a video. `auto`
            searches a live source as often as the machine can keep up with. It searches a recording every 10
            frames, or every 4 while there are three faces or more, even on a slow machine.
        smooth_s: Time constant in seconds of the smoothing of probabilities; 0 for no smoothing.
        batch: Frames of a recording that are processed at a time, 1 to 256. The faces in one half are read
            together while the other half is searched for faces. From 4K on, it is fewer frames.
        threads: CPU threads of each stage of the analysis; 0 for one per core. With 1, everything runs in the
            calling thread. From 2 on (on a GPU, 4), frames of a recording are also scanned early; see
            `EarlyScans`.
        cautious: Also count weak detections among `AnalyzedFrame.possible_faces_xyxy`, for `--blur`.
        profile: Receives the time of each stage.
        detector: Finds the faces, in one thread and without early scans; None for MTCNN, with `min_face` and
            `cautious`.
        other_readers: Readers of more than the expression, which fill `Face.readings`. None for those in
            `readers.OTHER_READERS`.

    Raises:
        WeightsError: The weights can't be used, or lack the annotation's layer.
        UsageError: There is no such device or annotation, or a number is out of its range.
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
        detector: FaceDetector | None = None,
        other_readers: Sequence[FaceReader] | None = None,
    ) -> None:
        for name, value, accepted in (
            ("unsure_below", 0 if unsure_below is None else unsure_below, UNSURE_BELOW),
            ("min_face", min_face, MIN_FACE),
            ("scan_every", 1 if scan_every == "auto" else scan_every, SCAN_EVERY),
            ("smooth_s", smooth_s, SMOOTH_S),
            ("batch", batch, BATCH),
            ("threads", threads, THREADS),
        ):
            if not accepted.holds(value):
                other = ", nor auto" if accepted is SCAN_EVERY else ""
                raise UsageError(f"{name} is {value!r}, which is not {accepted.what}{other}")
        self.device = pick_device(device)
        self._classifier = Classifier(
            self.device, weights=None if weights is None else Path(weights), labels=labels, threads=threads
        )
        self._unsure_below = self._classifier.unsure_below if unsure_below is None else unsure_below
        self._detector: FaceDetector
        # Finds the faces of a recording that is scanned early, in the early scans and between them.
        self._early_scan_detector: FaceDetector
        if detector is None:
            own = Detector(self.device, min_face=min_face, threads=threads, cautious=cautious)
            self._detector = own
            self._early_scan_detector = own if splits_early_scans(threads) else own.unsplit()
            self._early_scan_threads = early_scan_threads(self.device, threads)
        else:  # it may not be thread-safe
            self._detector = self._early_scan_detector = detector
            self._early_scan_threads = 0
        if other_readers is None:
            other_readers = [load(self.device, threads=threads) for load in OTHER_READERS]
        self._readers: tuple[FaceReader, ...] = (self._classifier, *other_readers)
        self._other_columns = tuple(column for reader in other_readers for column in reader.columns)
        self._scan_every = scan_every
        # Divisions by a tiny time constant would overflow.
        self._smooth_s = smooth_s if smooth_s >= SHORTEST_SMOOTH_S else 0.0
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

    def stream(self, source: Source | str | Path | int) -> Generator[AnalyzedFrame, None, None]:
        """Analyze every frame of a source, in order. To stop early, close the generator or drop it.

        Args:
            source: An open source, which the caller closes, or any argument that `open_source` takes. A
                source that was read or closed before has no frames left.

        Yields:
            The frames with their faces. A recording is read half a second and up to 16 frames ahead of the
            frame that is yielded; with early scans up to 32 frames, see `EarlyScans`.

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

        Give each frame its own array, because frames are compared with later ones.

        Raises:
            ValueError: There is no such kind.
        """
        kind = SourceKind(kind)
        if kind == SourceKind.IMAGES:
            for frame in frames:
                yield self._analyze_picture(frame)
        elif kind == SourceKind.VIDEO:
            yield from self._analyze_recording(frames)
        else:
            yield from self._analyze_live(frames)

    def _analyze_picture(self, frame: Frame) -> AnalyzedFrame:
        """Analyze a picture by itself. Ids start again from 1."""
        found = find_in_picture(frame, self._detector, self._profile)
        read = read_every_face(found, self._readers, self._profile)
        faces = [self._face(face.tracked.track_id, face.tracked, face.values) for face in read.faces]
        boxes = np.array([face.box_xyxy for face in faces], np.float32).reshape(-1, 4)
        return AnalyzedFrame(frame, tuple(faces), np.concatenate([boxes, read.weak_xyxy]))

    def _analyze_recording(self, frames: Iterable[Frame]) -> Iterator[AnalyzedFrame]:
        """Find, read and decide. On several cores, finding and reading run at the same time.

        Very large frames are found and read in this thread, to hold one frame less in memory.
        """
        abandoned = threading.Event()
        frames = iter(frames)
        first = list(itertools.islice(frames, 1))
        frame_bytes = first[0].bgr.nbytes if first else 0
        are_large = one_at_a_time(frame_bytes)
        # From 4K on, the sums of a frame take 100 MB in each thread that scans early.
        early_threads = self._early_scan_threads if frame_bytes < FOUR_K_BYTES else 0
        found = find_in_recording(
            _first_then(first, frames),
            self._early_scan_detector if early_threads else self._detector,
            self._scan_every,
            batch=max(1, self._batch // 2),
            enough_faces=self._classifier.enough_faces,
            early_scan_threads=early_threads,
            abandoned=abandoned,
            profile=self._profile,
        )
        with ExitStack() as stack:
            if self._side_by_side and not are_large:
                background = Background(
                    found,
                    queue_size=2,
                    frame_bytes=lambda batch: sum(each.frame.bgr.nbytes for each in batch),
                )
                found = iter(background)

                def abandon() -> None:
                    abandoned.set()  # before waiting for the thread
                    background.close(LAST_FRAME_S)

                # At exit, Python closes an abandoned generator only when threads no longer run, so stop the
                # thread earlier.
                atexit.register(abandon)
                stack.callback(atexit.unregister, abandon)
                stack.callback(abandon)
            look_ahead = LookAhead(self._smooth_s)
            read = ErrorLast(
                read_recording(found, self._readers, self._smooth_s, self._unsure_below, self._profile)
            )
            for read_frame in read:
                yield from map(self._to_analyzed, look_ahead.add(read_frame))
            yield from map(self._to_analyzed, look_ahead.rest())
            read.raise_error()

    def _analyze_live(self, frames: Iterable[Frame]) -> Iterator[AnalyzedFrame]:
        """Analyze each frame as it comes, because a live source can't wait for more."""
        finder = LiveFinder(self._detector, self._scan_every, self._profile)
        decider = NoLookAhead(self._smooth_s)
        for frame in frames:
            began_s = time.perf_counter()
            found = finder.find(frame)
            read = read_every_face(found, self._readers, self._profile)
            analyzed = self._to_analyzed(decider.decide(read))
            analysis_s = time.perf_counter() - began_s
            yield analyzed
            finder.scan_ahead(found, analysis_s)  # after the yield, so that the scan does not delay the frame

    def _to_analyzed(self, decided: DecidedFrame) -> AnalyzedFrame:
        faces = [self._face(face.id, face.tracked, face.values) for face in decided.faces]
        return AnalyzedFrame(decided.frame, tuple(faces), decided.possible_faces_xyxy)

    def _face(self, face_id: int, tracked: TrackedFace, values: np.ndarray) -> Face:
        probabilities, others = values[: len(EXPRESSIONS)], values[len(EXPRESSIONS) :]
        return Face(
            face_id,
            tracked.box_xyxy,
            tracked.landmarks_xy,
            tracked.score,
            probabilities,
            unsure=float(probabilities.max()) < self._unsure_below,
            readings=dict(zip(self._other_columns, map(float, others), strict=True)),
        )


def _first_then(first: list[Frame], others: Iterator[Frame]) -> Iterator[Frame]:
    """Yield the frames of a list, then the others. Empties the list, so that no frame is kept in memory."""
    while first:
        yield first.pop()
    yield from others
