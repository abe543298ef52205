"""The decoding thread: order, back-pressure, newest frames, errors, and a guaranteed end."""

from __future__ import annotations

import re
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.scripted import ScriptedSource
from helpers.waiting import wait_until

from fer_stream.errors import SourceError
from fer_stream.sources import open_source
from fer_stream.system.background import Background, Task
from fer_stream.types import Frame

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


def test_a_slow_reader_of_a_recording_gets_every_frame_in_order() -> None:
    with ScriptedSource(50) as source, Background(source, queue_size=3) as frames:
        seen = []
        for frame in frames:
            time.sleep(0.001)
            seen.append(frame.index)
        assert seen == list(range(50))
        assert frames.dropped == 0


def test_decoding_runs_ahead_only_as_far_as_the_queue_goes() -> None:
    with ScriptedSource(100) as source, Background(source, queue_size=4) as frames:
        wait_until(lambda: source.read == 4)
        time.sleep(0.05)
        assert source.read == 4
        assert next(iter(frames)).index == 0
        wait_until(lambda: source.read == 5)


def test_two_frames_of_4k_wait_for_their_reader() -> None:
    with (
        ScriptedSource(100) as source,
        Background(source, queue_size=4, frame_bytes=lambda _: 3 * 4096 * 2160) as frames,
    ):
        wait_until(lambda: source.read == 2)
        time.sleep(0.02)
        assert source.read == 2
        assert next(iter(frames)).index == 0
        wait_until(lambda: source.read == 3)


def test_one_frame_of_8k_waits_for_its_reader() -> None:
    with (
        ScriptedSource(100) as source,
        Background(source, queue_size=4, frame_bytes=lambda _: 3 * 7680 * 4320) as frames,
    ):
        for index in range(3):
            wait_until(lambda read=index + 1: source.read == read)
            time.sleep(0.02)
            assert source.read == index + 1
            assert next(iter(frames)).index == index


def test_a_frame_that_was_handed_over_is_let_go() -> None:
    def two() -> Iterator[Frame]:
        for index in range(2):
            yield Frame(np.zeros((2, 2, 3), np.uint8), index, 0.0)
        assert let_go.wait(10)

    let_go = threading.Event()
    with Background(two()) as frames:
        reader = frames.poll(0.01)
        weak = [weakref.ref(next(reader)) for _ in range(2)]
        assert next(reader) is None  # it waits
        assert weak[0]() is None and weak[1]() is None
        let_go.set()


def test_peeking_at_the_first_frame_does_not_consume_it() -> None:
    with ScriptedSource(3) as source, Background(source) as frames:
        first = frames.peek()
        assert first is not None and first.index == 0
        assert [frame.index for frame in frames] == [0, 1, 2]
        assert frames.peek() is None


def test_closing_gives_up_on_a_thread_that_is_held_by_something_else() -> None:
    let_go = threading.Event()

    class Held(ScriptedSource):
        def _read(self) -> Frame | None:
            assert let_go.wait(10)
            return None

    before = threading.active_count()
    frames = Background(Held(1))
    assert not frames.close(0.05)
    assert threading.active_count() == before + 1
    let_go.set()
    assert frames.close()


def test_a_slow_reader_of_a_live_source_gets_the_newest_frame() -> None:
    with ScriptedSource(100) as source, Background(source, drop_old=True) as frames:
        wait_until(lambda: source.read == 100)
        time.sleep(0.02)
        assert [frame.index for frame in frames] == [99]
        assert frames.dropped == 99


def test_a_fast_reader_of_a_live_source_misses_nothing() -> None:
    fetched = threading.Semaphore(1)

    class NeverTooFast(ScriptedSource):
        def _read(self) -> Frame | None:
            assert fetched.acquire(timeout=5)
            return super()._read()

    indices = []
    with NeverTooFast(20) as source, Background(source, drop_old=True) as frames:
        for frame in frames:
            indices.append(frame.index)
            fetched.release()
        assert indices == list(range(20))
        assert frames.dropped == 0


def test_a_reader_learns_of_a_silence_and_misses_no_frame() -> None:
    speak = threading.Event()

    class Silent(ScriptedSource):
        def _read(self) -> Frame | None:
            assert self.read != 1 or speak.wait(5)
            return super()._read()

    seen: list[int | None] = []
    with Silent(3) as source, Background(source) as frames:
        for frame in frames.poll(0.01):
            seen.append(None if frame is None else frame.index)
            if seen.count(None) == 3:
                speak.set()
    assert [index for index in seen if index is not None] == [0, 1, 2]
    assert seen.count(None) >= 3


def test_a_stage_that_cannot_begin_is_an_error() -> None:
    class Broken:
        def __iter__(self) -> Iterator[int]:
            raise ZeroDivisionError("a bug")

    with Background(Broken()) as items, pytest.raises(ZeroDivisionError):
        next(items.poll(10.0))


@pytest.mark.parametrize("error", [SourceError("the cable is out"), ZeroDivisionError("a bug")])
def test_the_workers_error_reaches_the_reader_after_its_frames(error: Exception) -> None:
    seen: list[int] = []
    with ScriptedSource(3, error=error) as source, Background(source) as frames:
        with pytest.raises(type(error), match=str(error)):
            seen.extend(frame.index for frame in frames)
        with pytest.raises(type(error)):  # the error comes again, instead of an end that looks like success
            next(iter(frames))
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("drop_old", [False, True])
def test_closing_does_not_hang_on_a_full_queue(drop_old: bool) -> None:
    source = ScriptedSource(1000)
    capture = Background(source, queue_size=2, drop_old=drop_old)
    wait_until(lambda: source.read >= 2)
    capture.close()
    capture.close()
    assert list(capture) == []


def test_an_interrupt_in_the_reader_gets_through() -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        ScriptedSource(1000) as source,
        Background(source, queue_size=2) as frames,
    ):
        for _ in frames:
            raise KeyboardInterrupt
    assert source.read < 1000


def test_closing_from_another_thread_releases_a_waiting_reader() -> None:
    source = ScriptedSource(1, frame_s=0.3)
    capture = Background(source)
    closer = threading.Timer(0.05, capture.close)
    closer.start()
    assert list(capture) == []
    closer.join()


def test_every_frame_of_a_real_video_arrives(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(25):
            picture = np.full((48, 64, 3), index * 10, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())
    with open_source(path) as source, Background(source) as frames:
        seen = [(frame.index, frame.time_s, frame.bgr.mean()) for frame in frames]
    assert seen == [(i, pytest.approx(i / 25), pytest.approx(i * 10, abs=4.9)) for i in range(25)]


def test_a_time_out_of_the_source_is_an_error_like_any_other() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise TimeoutError("the camera does not answer")

    with Background(source()) as items:
        read = iter(items)
        assert next(read) == 1
        with pytest.raises(TimeoutError, match="does not answer"):
            next(read)


def test_a_task_returns_its_result_and_raises_its_error() -> None:
    task = Task(lambda: 7)
    assert [task.result(), task.result()] == [7, 7]
    nothing = Task(lambda: None)
    assert nothing.result() is None
    failing = Task(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        failing.result()
    with pytest.raises(ZeroDivisionError):
        failing.close()  # also for callers that need no result
    slow_may_end = threading.Event()
    slow = Task(slow_may_end.wait)
    with pytest.raises(TimeoutError, match=r"longer than 0\.01 s"):
        slow.result(0.01)
    slow_may_end.set()
    assert slow.result() is True
    for each in (task, nothing, slow):
        each.close()


MAKES_A_THREAD = re.compile(r"Thread\(|Timer\(|ThreadPoolExecutor|start_new_thread|^import _thread", re.M)


def test_only_two_modules_make_threads() -> None:
    root = Path(__file__).parents[2]
    makers = [
        str(path.relative_to(root))
        for package in ("fer_stream", "train")
        for path in sorted((root / package).rglob("*.py"))
        if MAKES_A_THREAD.search(path.read_text(encoding="utf-8"))
    ]
    system = Path("fer_stream", "system")
    assert makers == [str(system / "background.py"), str(system / "thread_pool.py")]
