"""`run`: source -> analyzer -> overlay -> sinks, all stages at once on different frames.

Threads share the work. One decodes, and one analyzes, draws and prepares pictures for the sinks. For most
recordings another one finds the faces first, and on 2 cores or more, further ones scan frames ahead of it
(see `Analyzer`). The caller's thread writes, because windows belong to the main thread and Ctrl-C arrives
there. The queues between the threads are bounded.

Ctrl-C and SIGTERM end a run between two frames, because an exception within a sink could leave half a row or
half a packet behind. A second one, some seconds later, ends the run at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fer_stream.analyzer import Analyzer
from fer_stream.expressions import LABELS
from fer_stream.face_time import FrameClock, PeopleTime, shares_of
from fer_stream.profiling import Profile, peak_rss_mb
from fer_stream.rendering.blur import hide_faces
from fer_stream.rendering.overlay import Overlay
from fer_stream.sinks import RunContext, Sink
from fer_stream.sinks.provenance import Provenance
from fer_stream.sources import Source, SourceInfo, SourceKind
from fer_stream.status import RunStatus
from fer_stream.system.background import Background
from fer_stream.system.closing import first_error
from fer_stream.system.interrupts import call_on_interrupt
from fer_stream.types import AnalyzedFrame, Frame

DECODED_AHEAD = 5  # frames; at 4K one takes 25 MB
DRAWN_AHEAD = 5
# A second Ctrl-C this long after the first one ends a run that hangs. If it follows at once, it is the same
# request delivered twice, for example by the terminal and by a wrapper script.
INSIST_AFTER_S = 2.0
IDLE_S = 0.03  # while no frame comes, a window is served at this interval


@dataclass
class Summary:
    """Summary of a run.

    Attributes:
        frames: Number of frames that went to every sink.
        faces: Number of people, as far as they could be followed; for pictures, the number of faces.
        dropped: Frames of a live source that came while an earlier one was being analyzed.
        wall_s: Seconds that the run took.
        first_frame_s: Seconds until the first frame had gone to every sink; None if there was none.
        interrupted: Whether Ctrl-C or SIGTERM stopped it before the source ended.
        people: Time that each person was seen, by label. Empty for pictures.
        label_s: Face-seconds of each label, an expression or "unsure". For pictures, the number of faces.
        problems: Problems that did not end the run, a line each.
    """

    frames: int = 0
    faces: int = 0
    dropped: int = 0
    wall_s: float = 0.0
    first_frame_s: float | None = None
    interrupted: bool = False
    people: PeopleTime = field(default_factory=PeopleTime)
    label_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(LABELS, 0.0))
    problems: list[str] = field(default_factory=list)

    def shares(self) -> dict[str, float]:
        """Return the share of each label in the time that faces were seen, 0 to 1."""
        return shares_of(self.label_s)


@dataclass(frozen=True)
class RunOptions:
    """Options of a run.

    Attributes:
        blur: Hide the faces before anything is drawn or written; see `blur.hide_faces`. A face that is never
            found is never hidden, so give the analyzer `scan_every=1` and `cautious=True`.
        provenance: Program, weights and options that produce the results, for outputs that store them.
        profile: Receives the time of each stage.
        status: Receives the state of the run.
        on_frame: Called after each frame has gone to every sink. `frame.bgr` is then the annotated picture,
            if one was drawn and no sink needs the frame without it; see `Sink.needs_frame`.
        on_idle: Called repeatedly while no frame comes.
    """

    blur: bool = False
    provenance: Provenance = field(default_factory=Provenance)
    profile: Profile = field(default_factory=Profile)
    status: RunStatus = field(default_factory=RunStatus)
    on_frame: Callable[[AnalyzedFrame, Summary], None] | None = None
    on_idle: Callable[[], None] | None = None


def run(
    source: Source,
    analyzer: Analyzer,
    overlay: Overlay,
    sinks: Sequence[Sink],
    options: RunOptions | None = None,
) -> Summary:
    """Analyze a source, give every frame to every sink, and close the sinks.

    In the main thread, Ctrl-C, SIGTERM and SIGHUP end the run between two frames, and it returns with
    `Summary.interrupted` set. Your own handlers of these signals are not called meanwhile.

    Args:
        source: An open source. The caller closes it, except for a live one, which is closed at the end. A
            source that was read or closed before has no frames left.
        analyzer: Finds and reads the faces.
        overlay: Draws them, if a sink needs the picture.
        sinks: The outputs, each for one run. All are closed when this returns or raises, even if one has
            failed.
        options: Further options.

    Returns:
        The summary. If a sink requests the end, for example because its window was closed, the run counts as
        completed.

    Raises:
        SourceError: The source ended in an error. The frames before it are written.
        OutputError: An output can no longer be written. The other outputs are finished.
    """
    began_s = time.monotonic()
    try:
        running = _Run(source, analyzer, overlay, sinks, options or RunOptions())
    except BaseException:  # for example, no more threads can start
        first_error(sink.close for sink in sinks)
        raise
    summary = running.summary
    failure: BaseException | None = None
    with call_on_interrupt(running.interrupt):
        try:
            running.write_all()
        except KeyboardInterrupt:  # raised by a callback or by a second interrupt
            summary.interrupted = True
        except BaseException as error:
            failure = error
        running.end_threads()
        # Close every sink, even after a second Ctrl-C, so that the other files are finished.
        unfinished = first_error(sink.close for sink in sinks)
        failure = failure or unfinished
    summary.dropped = running.dropped
    summary.wall_s = time.monotonic() - began_s
    summary.problems += source.problems
    for sink in sinks:
        summary.problems += sink.problems
    if failure is not None:
        raise failure
    return summary


class _Run:
    """The threads of a run, and the writing to its sinks.

    Attributes:
        summary: The summary so far.
    """

    def __init__(
        self,
        source: Source,
        analyzer: Analyzer,
        overlay: Overlay,
        sinks: Sequence[Sink],
        options: RunOptions,
    ) -> None:
        """Start the threads."""
        self.summary = Summary()
        self._source, self._sinks, self._options = source, sinks, options
        self._context = RunContext(
            source=source.info,
            status=options.status,
            provenance=options.provenance,
            crop_scale=analyzer.crop_scale,
            blurred=options.blur,
            saved_video=next((sink.saved_video for sink in sinks if sink.saved_video is not None), None),
            written_files=lambda: written_files(sinks),
        )
        self._count = _Count(self.summary, source.info)
        self._interrupted_s: float | None = None

        live = source.info.is_live
        self._frames = Background(
            _timed(source, options.profile),
            queue_size=DECODED_AHEAD,
            frame_bytes=lambda frame: frame.bgr.nbytes,
            drop_old=live,
        )
        analysis = analyzer.analyze_frames(_unless_stopped(self._frames), source.info.kind)
        if options.blur:
            analysis = _with_hidden_faces(analysis)
        try:
            self._drawn_frames = Background(
                _draw_frames(analysis, overlay, sinks, options.profile),
                queue_size=2 if live else DRAWN_AHEAD,
                frame_bytes=lambda drawn: drawn.nbytes,
            )
        except BaseException:  # for example, no more threads can start
            self._end_decoder()
            raise

    @property
    def dropped(self) -> int:
        """Number of frames of a live source that newer ones replaced."""
        return self._frames.dropped + self._source.dropped

    def interrupt(self) -> None:
        """End after the current frame. At a second interrupt some seconds later, end at once."""
        if self._interrupted_s is not None and time.monotonic() - self._interrupted_s > INSIST_AFTER_S:
            raise KeyboardInterrupt
        if self._interrupted_s is None:
            self._interrupted_s = time.monotonic()
            self.summary.interrupted = True
            self._drawn_frames.stop()

    def write_all(self) -> None:
        """Give every frame to every sink, until the source ends or somebody stops the run."""
        sinks, status = self._sinks, self._options.status
        for sink in sinks:
            sink.begin(self._context)
        for drawn in self._drawn_frames.poll(IDLE_S):
            status.dropped = self.dropped
            status.source = self._source.status
            status.recordings = tuple(entry for sink in sinks for entry in sink.recordings())
            if drawn is not None:
                self._write(drawn)
            else:
                self._idle()
            drawn = None  # its pictures are no longer needed
            if any(sink.stop_requested for sink in sinks):
                break

    def end_threads(self) -> None:
        """End the threads, the decoder first, because the analyzer may be waiting for it."""
        try:
            self._end_decoder()
            self._drawn_frames.close()
        except KeyboardInterrupt:
            pass  # a second Ctrl-C, because a thread hangs; it is a daemon, so it ends with the program

    def _end_decoder(self) -> None:
        if self._source.info.is_live:  # it may be waiting for a picture
            self._source.close()
        self._frames.close()

    def _write(self, drawn: _DrawnFrame) -> None:
        analyzed, options = drawn.analyzed, self._options
        for sink, image in zip(self._sinks, drawn.images, strict=True):
            with options.profile.stage(sink.name):
                sink.write(analyzed, image)
        latency_s = time.monotonic() - analyzed.frame.captured_s
        options.profile.add_latency(latency_s)
        options.status.frame_done(analyzed.frame.time_s, latency_s)
        self._count.add(analyzed)
        if options.on_frame is not None:
            options.on_frame(analyzed, self.summary)

    def _idle(self) -> None:
        for sink in self._sinks:
            sink.idle()
        if self._options.on_idle is not None:
            self._options.on_idle()


class _Count:
    """Counts frames, faces and the time of their expressions, in bounded memory."""

    def __init__(self, summary: Summary, info: SourceInfo) -> None:
        self._summary = summary
        self._images = info.kind == SourceKind.IMAGES
        self._clock = FrameClock(info.interval_s)
        self._highest_id = 0
        self._began_s = time.monotonic()

    def add(self, analyzed: AnalyzedFrame) -> None:
        self._summary.frames += 1
        if self._summary.first_frame_s is None:
            self._summary.first_frame_s = time.monotonic() - self._began_s
        if self._images:
            self._summary.faces += len(analyzed.faces)
            step_s = 1.0
        else:
            for face in analyzed.faces:  # ids count from 1 in order of appearance
                self._highest_id = max(self._highest_id, face.id)
            self._summary.faces = self._highest_id
            step_s = self._clock.step_s(analyzed.frame.time_s)
            self._summary.people.add(analyzed.faces, step_s, analyzed.frame.time_s)
        for face in analyzed.faces:
            self._summary.label_s[face.label] += step_s


def _timed(source: Source, profile: Profile) -> Iterator[Frame]:
    """Pass the frames on, and measure the time that each took to come out of the source."""
    frames = iter(source)
    while True:
        began_s = time.perf_counter()
        frame = next(frames, None)
        if frame is None:
            return
        profile.add("decode", time.perf_counter() - began_s)
        yield frame


class _RunStoppedError(BaseException):
    """The run has stopped, so the remaining frames need no analysis.

    It is not an Exception, because stages finish their frames before they raise one.
    """


def _unless_stopped(frames: Background[Frame]) -> Iterator[Frame]:
    """Pass the frames on. If the run stops before their end, make the analyzer drop the frames read ahead."""
    yield from frames
    if frames.is_stopped:
        raise _RunStoppedError


def _with_hidden_faces(
    analysis: Generator[AnalyzedFrame, None, None],
) -> Generator[AnalyzedFrame, None, None]:
    """Pass the frames on with their faces hidden."""
    with closing(analysis):
        for analyzed in analysis:
            yield hide_faces(analyzed)


@dataclass(frozen=True, eq=False)
class _DrawnFrame:
    """An analyzed frame on its way to the sinks.

    Attributes:
        analyzed: The frame. If it is drawn and no sink needs its pixels, it holds the annotated picture.
        images: For each sink, the annotated picture as `Sink.prepare` returned it; None if the sink doesn't
            need it.
        nbytes: Bytes of its BGR pictures.
    """

    analyzed: AnalyzedFrame
    images: tuple[Any, ...]
    nbytes: int


def _draw_frames(
    analysis: Generator[AnalyzedFrame, None, None], overlay: Overlay, sinks: Sequence[Sink], profile: Profile
) -> Iterator[_DrawnFrame]:
    """Pass the frames on, with annotated pictures for the sinks that need them."""
    frame_needed = any(sink.needs_frame for sink in sinks)
    with closing(analysis):  # close it in this thread, which owns its resources
        for analyzed in analysis:
            images: tuple[Any, ...] = (None,) * len(sinks)
            nbytes = analyzed.frame.bgr.nbytes
            image_needed = [sink.needs_image(analyzed) for sink in sinks]
            if any(image_needed):
                with profile.stage("draw"):
                    image_bgr = overlay.annotate(analyzed)
                with profile.stage("prepare"):
                    images = tuple(
                        sink.prepare(image_bgr) if needed else None
                        for sink, needed in zip(sinks, image_needed, strict=True)
                    )
                if not frame_needed:
                    analyzed = replace(analyzed, frame=replace(analyzed.frame, bgr=image_bgr))
                elif image_bgr is not analyzed.frame.bgr:
                    nbytes += image_bgr.nbytes
                del image_bgr
            drawn = _DrawnFrame(analyzed, images, nbytes)
            del analyzed, images  # free the pictures before waiting for the next frame
            yield drawn
            del drawn


def profile_report(summary: Summary, profile: Profile, loading_s: float, device: str) -> dict[str, Any]:
    """Return the content of the file for `--profile`.

    Args:
        summary: Summary of the run.
        profile: Profile of the run.
        loading_s: Seconds from the start of the command to that of the run.
        device: Device of the analysis, see `Analyzer.device`.
    """
    first_s = None if summary.first_frame_s is None else round(loading_s + summary.first_frame_s, 3)
    return {
        "frames": summary.frames,
        "wall_s": round(summary.wall_s, 3),
        "fps": round(summary.frames / summary.wall_s, 2) if summary.wall_s > 0 else 0.0,
        "dropped": summary.dropped,
        "faces": summary.faces,
        "stages_ms": profile.stages_ms(),
        "latency_ms": profile.latency_ms(),
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "first_frame_s": first_s,
        "device": device,
    }


def written_files(sinks: Sequence[Sink]) -> list[Path]:
    """Return the files and folders that the sinks made."""
    return [path for sink in sinks for path in sink.outputs()]
