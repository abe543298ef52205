"""`run`: order, bounded queues, and sinks that are closed however the run ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.faces import make_face
from helpers.scripted import ScriptedSource

from fer_stream import pipeline
from fer_stream.errors import OutputError, SourceError
from fer_stream.pipeline import RunOptions, Summary, profile_report, run, written_files
from fer_stream.profiling import Profile
from fer_stream.sinks import RunContext, Sink
from fer_stream.sinks.provenance import Provenance
from fer_stream.system.background import Background
from fer_stream.system.error_last import ErrorLast
from fer_stream.types import AnalyzedFrame, Frame

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


class FakeAnalyzer:
    """Returns one face per frame, with an expression that depends on the frame. It may fail at one."""

    crop_scale = 1.0

    def __init__(self, expression_of: Callable[[int], str] = lambda _: "happy", fail_at: int = -1) -> None:
        self.expression_of, self.fail_at = expression_of, fail_at

    def analyze_frames(self, frames: Iterable[Frame], kind: str) -> Iterator[AnalyzedFrame]:
        for frame in frames:
            if frame.index == self.fail_at:
                raise ZeroDivisionError("in the analyzer")
            yield AnalyzedFrame(frame, (make_face(1, self.expression_of(frame.index)),))


class FakeOverlay:
    """Adds 1 to every pixel."""

    def __init__(self) -> None:
        self.drawn = 0

    def annotate(self, analyzed: AnalyzedFrame) -> np.ndarray:
        self.drawn += 1
        return analyzed.frame.bgr + 1


class FakeSink(Sink):
    """Remembers its frames. It may raise at a frame, or when closed."""

    def __init__(self, name="fake", *, needs_image=False, write_error=None, at=0, close_error=None) -> None:
        super().__init__()
        self.name, self.image_needed = name, needs_image
        self.write_error, self.at, self.close_error = write_error, at, close_error
        self.indices: list[int] = []
        self.images: list[np.ndarray | None] = []
        self.closed = 0
        self.threads: set[int] = set()

    def needs_image(self, analyzed: AnalyzedFrame) -> bool:
        return self.image_needed

    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None) -> None:
        self.threads.add(threading.get_ident())
        if self.write_error is not None and analyzed.frame.index == self.at:
            raise self.write_error
        self.indices.append(analyzed.frame.index)
        self.images.append(image_bgr)

    def close(self) -> None:
        self.closed += 1
        if self.close_error is not None:
            raise self.close_error

    def outputs(self) -> list[Path]:
        return [Path(self.name)]


def test_every_frame_reaches_every_sink_in_order_and_in_the_callers_thread():
    plain, drawn = FakeSink("plain"), FakeSink("drawn", needs_image=True)
    overlay, profile = FakeOverlay(), Profile()
    with ScriptedSource(60) as source:
        summary = run(source, FakeAnalyzer(), overlay, [plain, drawn], RunOptions(profile=profile))
    assert plain.indices == drawn.indices == list(range(60))
    assert plain.images == [None] * 60
    assert [int(image[0, 0, 0]) for image in drawn.images] == list(range(1, 61))
    assert plain.threads == drawn.threads == {threading.get_ident()}
    assert plain.closed == drawn.closed == 1
    assert (summary.frames, summary.dropped, summary.interrupted) == (60, 0, False)
    assert overlay.drawn == 60
    assert set(profile.stages_ms()) == {"decode", "draw", "prepare", "plain", "drawn"}
    assert written_files([plain, drawn]) == [Path("plain"), Path("drawn")]


def test_each_sink_is_asked_for_each_frame_whether_it_needs_the_picture():
    class Odd(FakeSink):
        def needs_image(self, analyzed: AnalyzedFrame) -> bool:
            return analyzed.frame.index % 2 == 1

    odd, plain, overlay = Odd(), FakeSink(), FakeOverlay()
    with ScriptedSource(6) as source:
        run(source, FakeAnalyzer(), overlay, [odd, plain])
    assert [image is not None for image in odd.images] == [False, True] * 3
    assert plain.images == [None] * 6
    assert overlay.drawn == 3


def test_a_sink_may_prepare_its_pictures_before_they_are_written() -> None:
    class Preparing(FakeSink):
        def prepare(self, image_bgr: np.ndarray) -> str:
            assert threading.get_ident() != caller
            return f"prepared {image_bgr[0, 0, 0]}"

    caller = threading.get_ident()
    preparing, plain = Preparing(needs_image=True), FakeSink(needs_image=True)
    with ScriptedSource(4) as source:
        run(source, FakeAnalyzer(), FakeOverlay(), [preparing, plain])
    assert preparing.images == ["prepared 1", "prepared 2", "prepared 3", "prepared 4"]
    assert [int(image[0, 0, 0]) for image in plain.images] == [1, 2, 3, 4]


def test_only_the_annotated_picture_is_held_if_no_sink_needs_the_other() -> None:
    class Reading(FakeSink):
        def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None) -> None:
            super().write(analyzed, image_bgr)
            self.shares = analyzed.frame.bgr is image_bgr

    for needs_frame in (False, True):
        drawn, other = Reading(needs_image=True), FakeSink()
        drawn.needs_frame, other.needs_frame = False, needs_frame
        with ScriptedSource(6) as source:
            run(source, FakeAnalyzer(), FakeOverlay(), [drawn, other])
        assert drawn.shares is not needs_frame
        assert [int(image[0, 0, 0]) for image in drawn.images] == list(range(1, 7))


def test_every_sink_learns_of_the_run_before_its_first_frame():
    contexts: list[RunContext] = []

    class Curious(FakeSink):
        def begin(self, context: RunContext) -> None:
            assert not self.indices
            contexts.append(context)

    saving = FakeSink("saving")
    saving.saved_video = Path("annotated.mp4")
    provenance = Provenance(source_name="scripted", labels="ferplus")
    with ScriptedSource(3) as source:
        run(source, FakeAnalyzer(), FakeOverlay(), [Curious(), saving], RunOptions(provenance=provenance))
    (context,) = contexts
    assert context.source is source.info and context.provenance is provenance
    assert context.saved_video == Path("annotated.mp4")
    assert context.written_files() == [Path("fake"), Path("saving")]
    assert context.status.frames == 3


def test_any_sink_may_end_the_run():
    class Fed(FakeSink):
        def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None) -> None:
            super().write(analyzed, image_bgr)
            self.stop_requested = analyzed.frame.index == 4

    sink = Fed()
    with ScriptedSource(60) as source:
        summary = run(source, FakeAnalyzer(), FakeOverlay(), [sink])
    assert (summary.frames, summary.interrupted, sink.closed) == (5, False, 1)


def test_nothing_is_drawn_for_sinks_that_need_no_picture():
    overlay = FakeOverlay()
    with ScriptedSource(3) as source:
        run(source, FakeAnalyzer(), overlay, [FakeSink()])
    assert overlay.drawn == 0


def test_a_source_that_fails_midway_gives_what_came_before():
    sink = FakeSink()
    failing = ScriptedSource(7, error=SourceError("cable pulled"))
    with failing as source, pytest.raises(SourceError, match="cable pulled"):
        run(source, FakeAnalyzer(), FakeOverlay(), [sink])
    assert sink.indices == list(range(7))
    assert sink.closed == 1


def test_an_error_in_the_analyzer_reaches_the_caller():
    sink = FakeSink()
    with ScriptedSource(50) as source, pytest.raises(ZeroDivisionError, match="in the analyzer"):
        run(source, FakeAnalyzer(fail_at=5), FakeOverlay(), [sink])
    assert sink.indices == list(range(5))
    assert sink.closed == 1


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_the_other_sinks_are_finished_when_one_fails(failing):
    sinks = [FakeSink(str(at)) for at in range(3)]
    sinks[failing].write_error, sinks[failing].at = OutputError("disk full"), 4
    with ScriptedSource(1000) as source:
        with pytest.raises(OutputError, match="disk full"):
            run(source, FakeAnalyzer(), FakeOverlay(), sinks)
        assert source.read < 50, "it stops soon"
    assert [sink.closed for sink in sinks] == [1, 1, 1]
    assert [len(sink.indices) for sink in sinks] == [5 if at < failing else 4 for at in range(3)]


def test_the_sinks_are_closed_if_no_thread_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(pipeline, "Background", refuse)
    sink = FakeSink()
    with ScriptedSource(3) as source, pytest.raises(RuntimeError, match="new thread"):
        run(source, FakeAnalyzer(), FakeOverlay(), [sink])
    assert sink.closed == 1


def test_the_decoder_ends_if_the_next_thread_can_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    backgrounds: list[Background[Any]] = []

    def only_one(*arguments: Any, **options: Any) -> Background[Any]:
        if backgrounds:
            raise RuntimeError("can't start new thread")
        backgrounds.append(Background(*arguments, **options))
        return backgrounds[0]

    monkeypatch.setattr(pipeline, "Background", only_one)
    with ScriptedSource(100) as source:
        with pytest.raises(RuntimeError, match="new thread"):
            run(source, FakeAnalyzer(), FakeOverlay(), [])
        assert not backgrounds[0]._thread.is_alive()


def test_a_sink_that_fails_to_close_does_not_stop_the_others():
    sinks = [
        FakeSink(close_error=RuntimeError("odd")),
        FakeSink(close_error=OutputError("later")),
        FakeSink(),
    ]
    with ScriptedSource(3) as source, pytest.raises(RuntimeError, match="odd"):
        run(source, FakeAnalyzer(), FakeOverlay(), sinks)
    assert [sink.closed for sink in sinks] == [1, 1, 1]


def test_the_first_error_is_the_one_raised():
    sinks = [FakeSink(close_error=OutputError("second")), FakeSink(write_error=OutputError("first"), at=2)]
    with ScriptedSource(9) as source, pytest.raises(OutputError, match="first"):
        run(source, FakeAnalyzer(), FakeOverlay(), sinks)


def test_a_keyboard_interrupt_closes_the_sinks():
    sink = FakeSink(write_error=KeyboardInterrupt(), at=3)
    with ScriptedSource(1000) as source:
        summary = run(source, FakeAnalyzer(), FakeOverlay(), [sink])
    assert summary.interrupted and summary.frames == 3
    assert sink.closed == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_never_cuts_into_a_sink(number):
    class SlowSink(FakeSink):
        def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None) -> None:
            if analyzed.frame.index == 3:
                os.kill(os.getpid(), number)
                os.kill(os.getpid(), number)
                time.sleep(0.05)
            super().write(analyzed, image_bgr)

    before = signal.getsignal(number)
    sink = SlowSink()
    with ScriptedSource(1000) as source:
        summary = run(source, FakeAnalyzer(), FakeOverlay(), [sink])
    assert summary.interrupted
    assert sink.indices == [0, 1, 2, 3] and summary.frames == 4
    assert sink.closed == 1
    assert signal.getsignal(number) == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
def test_a_signal_wakes_a_run_that_waits_for_a_frame():
    sink = FakeSink()
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with ScriptedSource(5, frame_s=1.0) as source:
        began_s = time.monotonic()
        summary = run(source, FakeAnalyzer(), FakeOverlay(), [sink])
    timer.join()
    assert summary.interrupted and summary.frames < 5
    assert time.monotonic() - began_s < 4  # it would take 5 s


def test_a_run_that_stops_does_not_analyze_what_was_read_ahead():
    analyzed: list[int] = []

    class ReadingAhead(FakeAnalyzer):
        """Holds 9 frames back, and hands them on before an error, as early scans do."""

        def analyze_frames(self, frames: Iterable[Frame], kind: str) -> Iterator[AnalyzedFrame]:
            ahead: deque[Frame] = deque()

            def delayed(frames: Iterable[Frame]) -> Iterator[Frame]:
                for frame in frames:
                    ahead.append(frame)
                    if len(ahead) > 9:
                        yield ahead.popleft()
                yield from ahead

            for one in super().analyze_frames(delayed(ErrorLast(frames)), kind):
                analyzed.append(one.frame.index)
                if one.frame.index > 0:  # the next ones take long
                    time.sleep(0.1)
                if one.frame.index % 5 == 0:  # they come out together, like a batch
                    yield one

    sink = FakeSink(write_error=OutputError("full"), at=0)
    with ScriptedSource(1000) as source, pytest.raises(OutputError, match="full"):
        run(source, ReadingAhead(), FakeOverlay(), [sink])
    assert len(analyzed) < 4


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
def test_a_second_signal_ends_a_run_that_hangs(monkeypatch):
    monkeypatch.setattr(pipeline, "INSIST_AFTER_S", 0.1)
    before = threading.active_count()
    sink, release = FakeSink(), threading.Event()

    class Hanging(FakeAnalyzer):
        def analyze_frames(self, frames: Iterable[Frame], kind: str) -> Iterator[AnalyzedFrame]:
            yield from super().analyze_frames([next(iter(frames))], kind)
            release.wait(20)

    def ask_twice() -> None:
        for _ in range(2):
            time.sleep(0.4)
            os.kill(os.getpid(), signal.SIGINT)

    asking = threading.Thread(target=ask_twice)
    asking.start()
    with ScriptedSource(5) as source:
        summary = run(source, Hanging(), FakeOverlay(), [sink])
    assert summary.interrupted and sink.closed == 1
    release.set()
    asking.join()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_slow_sink_holds_the_source_back():
    ahead: list[int] = []
    with ScriptedSource(80) as source:

        def look(analyzed: AnalyzedFrame, summary: Summary) -> None:
            time.sleep(0.002)
            ahead.append(source.read - analyzed.frame.index)

        run(source, FakeAnalyzer(), FakeOverlay(), [FakeSink()], RunOptions(on_frame=look))
    assert max(ahead) <= pipeline.DECODED_AHEAD + pipeline.DRAWN_AHEAD + 4


def test_a_live_source_drops_what_comes_too_fast():
    sink = FakeSink()
    with ScriptedSource(60, kind="camera", frame_s=0.002) as source:
        slow = FakeSink("slow")
        slow.write = lambda analyzed, image_bgr: time.sleep(0.02)  # type: ignore[method-assign]
        summary = run(source, FakeAnalyzer(), FakeOverlay(), [sink, slow])
    assert summary.dropped > 0
    assert summary.frames + summary.dropped <= 60
    assert sink.indices == sorted(set(sink.indices))


def test_the_summary_counts_faces_and_time():
    with ScriptedSource(
        41
    ) as source:  # 4 s: the first frame counts for 0.03 s, then come 10 sad and 30 happy ones
        summary = run(
            source, FakeAnalyzer(lambda index: "sad" if index <= 10 else "happy"), FakeOverlay(), []
        )
    assert summary.faces == 1
    assert summary.shares()["sad"] == pytest.approx(0.25, abs=0.01)
    assert summary.shares()["happy"] == pytest.approx(0.75, abs=0.01)
    assert sum(summary.shares().values()) == pytest.approx(1)
    assert summary.people.by_id[1].seen_s == pytest.approx(4.03, abs=0.01)


def test_pictures_count_each_face():
    with ScriptedSource(4, kind="images") as source:
        summary = run(source, FakeAnalyzer(lambda index: "fear" if index else "sad"), FakeOverlay(), [])
    assert summary.faces == 4
    assert summary.shares()["fear"] == pytest.approx(0.75)


def test_the_time_of_the_first_frame_counts_from_the_start():
    with ScriptedSource(2) as source:
        summary = run(source, FakeAnalyzer(lambda _: "sad"), FakeOverlay(), [])
    assert 0 <= summary.first_frame_s <= summary.wall_s
    report = profile_report(summary, Profile(), 100.0, "cpu")
    assert report["first_frame_s"] == pytest.approx(100 + summary.first_frame_s, abs=0.001)


def test_a_run_without_frames_has_a_profile():
    report = profile_report(Summary(), Profile(), 1.0, "cpu")
    assert report["frames"] == 0 and report["fps"] == 0.0 and report["first_frame_s"] is None


def test_problems_of_source_and_sinks_are_gathered():
    sink = FakeSink()
    sink.problems = ["no sound"]
    with ScriptedSource(2) as source:
        source.problems.append("damaged")
        summary = run(source, FakeAnalyzer(), FakeOverlay(), [sink])
    assert summary.problems == ["damaged", "no sound"]


class OverloadedAnalyzer(FakeAnalyzer):
    """Works on each frame until the source has ten more. No clock is involved."""

    FRAMES_MEANWHILE = 10

    def __init__(self, source: AskedSource) -> None:
        super().__init__()
        self.source, self.waited = source, []

    def analyze_frames(self, frames: Iterable[Frame], kind: str) -> Iterator[AnalyzedFrame]:
        for analyzed in super().analyze_frames(frames, kind):
            self.waited.append(self.source.read - 1 - analyzed.frame.index)
            self.source.bring(self.FRAMES_MEANWHILE)
            yield analyzed


class AskedSource(ScriptedSource):
    """A camera that sends a frame on request."""

    def __init__(self, count: int) -> None:
        super().__init__(count, kind="camera")
        self._asked = threading.Semaphore(1)
        self._brought = threading.Condition()

    def _read(self) -> Frame | None:
        self._asked.acquire()
        with self._brought:
            frame = super()._read()
            self._brought.notify_all()
        return frame

    def bring(self, frames: int) -> None:
        """Request that many frames, and wait until they have been read."""
        with self._brought:
            wanted = min(self.read + frames, self.count)
            for _ in range(frames):
                self._asked.release()
            self._brought.wait_for(lambda: self.read >= wanted, timeout=10)


def test_a_machine_that_cannot_keep_up_drops_frames_and_stays_current():
    lags = []

    class Screen(FakeSink):
        def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None) -> None:
            super().write(analyzed, image_bgr)
            lags.append(source.read - 1 - analyzed.frame.index)

    sink = Screen()
    with AskedSource(600) as source:
        analyzer = OverloadedAnalyzer(source)
        summary = run(source, analyzer, FakeOverlay(), [sink])
    assert sink.indices == sorted(set(sink.indices))
    assert 600 / 12 <= len(sink.indices) <= 600 / 8
    assert summary.dropped == 600 - len(sink.indices) == 600 - summary.frames
    # The stage takes the newest frame or the one before, so the shown frame is one or two such steps old.
    assert max(analyzer.waited) <= 1
    assert max(lags) <= 3 * OverloadedAnalyzer.FRAMES_MEANWHILE
    assert sink.indices[-1] > 600 - 3 * OverloadedAnalyzer.FRAMES_MEANWHILE
