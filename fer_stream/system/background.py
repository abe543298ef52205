"""Threads that work in the background.

    Background    a stage with a bounded queue, so that stages work on different frames at the same time
    Task          one call in its own thread
    call_later    a call from a signal handler, after a pause

An error in a thread is raised in the thread that reads from it, as in PySceneDetect's scene manager. All
other threads of this package belong to a `ThreadPool` or to a library that joins them, such as asyncio.
"""

from __future__ import annotations

import _thread
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, TypeVar, cast

from fer_stream.system.memory import frames_ahead

# On Windows, waiting for a lock without a limit delays Ctrl-C until the lock is released.
_WAIT_S = 0.1
_NAME = "fer-stream-background"
POOL_THREADS = "fer-stream-pool"  # start of the names of a thread pool's threads

_T = TypeVar("_T")


class _NothingYetError(Exception):
    """No item came in time. Not a TimeoutError, because that may be the error of a source."""


def a_thread_runs() -> bool:
    """Return whether a thread of this package still runs, such as one that is blocked in a silent stream."""
    return any(thread.name.startswith((_NAME, POOL_THREADS)) for thread in threading.enumerate())


def call_later(call: Callable[[], object], pause_s: float) -> None:
    """Call a function in another thread after a pause. Takes no lock, so signal handlers may call it."""

    def work() -> None:
        time.sleep(pause_s)
        call()

    _thread.start_new_thread(work, ())  # `threading` takes locks


class Background(Generic[_T]):
    """Reads a source, or any other stage that yields frames, in its own thread.

    A recording waits for its reader, so every frame arrives, in order. A live source can't wait. With
    `drop_old`, the newest frame replaces a frame that was not fetched yet. An item that is None ends the
    iteration.

    The caller closes the source afterwards:

        with open_source("clip.mp4") as source, Background(source) as frames:
            for frame in frames:
                ...

    Attributes:
        dropped: Number of frames that were replaced because the reader was too slow.
        error: The error that ended the source; None before that, or if it ended without one.
    """

    def __init__(
        self,
        source: Iterable[_T],
        *,
        queue_size: int = 8,
        frame_bytes: Callable[[_T], int] | None = None,
        drop_old: bool = False,
    ) -> None:
        """Start reading.

        Args:
            source: The iterable, such as an open source. Nothing else may read it.
            queue_size: Largest number of items held ready, at least 1. The source is asked for the next item
                only when there is room for it.
            frame_bytes: Returns the size of an item in bytes of pictures. Fewer large items are held; see
                `memory.frames_ahead`.
            drop_old: Whether to hold only the newest item, and never make the source wait.
        """
        if queue_size < 1:
            raise ValueError(f"a queue holds at least 1 item, not {queue_size}")
        self.dropped = 0
        self._source = source
        self._drop_old = drop_old
        self._queue_size, self._frame_bytes = queue_size, frame_bytes
        self._items: deque[_T] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._ended = False
        self.error: BaseException | None = None
        # A daemon, so that a second Ctrl-C ends the program even while a camera hangs.
        self._thread = threading.Thread(target=self._work, name=_NAME, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            items = iter(self._source)
            while self._wait_for_room():
                try:
                    self._put(next(items))
                except StopIteration:
                    break
            if isinstance(items, Generator):
                items.close()  # in this thread, because its resources may belong to it
        except BaseException as error:  # the reader raises it, whatever it is
            self.error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _wait_for_room(self) -> bool:
        """Wait until the next item may be fetched. Return False if reading should stop."""
        with self._changed:
            while self._is_full() and not self._stopping:
                self._changed.wait()
            return not self._stopping

    def _is_full(self) -> bool:
        if self._drop_old or not self._items:
            return False
        most = self._queue_size
        if self._frame_bytes is not None:
            most = frames_ahead(most, self._frame_bytes(self._items[0]))
        return len(self._items) >= most

    def _put(self, item: _T) -> None:
        """Queue an item."""
        with self._changed:
            if self._drop_old:
                self.dropped += len(self._items)
                self._items.clear()
            if not self._stopping:
                self._items.append(item)
            self._changed.notify_all()

    def __iter__(self) -> Iterator[_T]:
        """Yield the items as they come, until the source ends or this is closed.

        Raises:
            FerStreamError: The error that ended the source, after the items that came before it.
        """
        for item in self.poll(math.inf):
            if item is not None:
                yield item
            item = None

    def poll(self, every_s: float) -> Iterator[_T | None]:
        """Yield the items as they come, and None whenever none comes for a while.

        This is for readers that have work to do while a live source is silent, such as updating a window.

        Args:
            every_s: Seconds to wait for an item before yielding None.

        Raises:
            FerStreamError: The error that ended the source, after the items that came before it.
        """
        while True:
            try:
                item = self._get(every_s)
            except _NothingYetError:
                yield None
                continue
            if item is None:
                return
            yield item
            item = None  # it may be large, and the next one may take long

    def peek(self, limit_s: float = math.inf) -> _T | None:
        """Wait for the next item and return it without taking it; None at the end.

        Args:
            limit_s: Longest time to wait.

        Raises:
            _NothingYetError: No item came in that time.
            FerStreamError: The error that ended the source before an item came.
        """
        return self._get(limit_s, take=False)

    def _get(self, limit_s: float, *, take: bool = True) -> _T | None:
        deadline_s = time.monotonic() + limit_s
        with self._changed:
            while not (self._items or self._ended or self._stopping):
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    raise _NothingYetError
                self._changed.wait(min(left_s, _WAIT_S))
            if self._stopping:
                return None
            if self._items and not take:
                return self._items[0]
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
        if self.error is not None:
            raise self.error
        return None

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` or `close` ended the iteration, or will end it."""
        return self._stopping

    def stop(self) -> None:
        """End iteration now, even if items are queued. Takes no lock, so signal handlers may call it."""
        self._stopping = True

    def close(self, limit_s: float = math.inf) -> bool:
        """Stop reading and join the thread, unless a thread of a pool calls this. May be called again.

        This waits until the worker has finished its current item. Return False if that took too long.

        Args:
            limit_s: Longest time to wait for a thread that can't be interrupted. After that, it ends when it
                can, at the latest when the program ends.
        """
        deadline_s = time.monotonic() + limit_s
        with self._changed:
            self._stopping = True
            self._items.clear()
            self._changed.notify_all()
        # Garbage collection may close a forgotten reader, at the end of the program, when threads no longer
        # run, or in any thread. To wait in the worker itself, or in a pool's thread that the worker may be
        # waiting for, would be a deadlock.
        current = threading.current_thread()
        if sys.is_finalizing() or current is self._thread or current.name.startswith(POOL_THREADS):
            return True
        while self._thread.is_alive() and (left_s := deadline_s - time.monotonic()) > 0:
            self._thread.join(min(left_s, _WAIT_S))
        return not self._thread.is_alive()

    def __enter__(self) -> Background[_T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Task(Generic[_T]):
    """A call in its own thread.

    If the caller is interrupted while it waits, the thread ends when it can, at the latest when the program
    ends.
    """

    def __init__(self, call: Callable[[], _T]) -> None:
        """Start the call."""

        def once() -> Iterator[_T]:
            yield call()

        self._background = Background(once())

    def result(self, limit_s: float = math.inf) -> _T:
        """Wait for the call, and return its result or raise its error.

        Args:
            limit_s: Longest time to wait.

        Raises:
            TimeoutError: The call takes longer. Its thread ends when it can.
        """
        try:
            return cast(_T, self._background.peek(limit_s))
        except _NothingYetError:
            raise TimeoutError(f"the call takes longer than {limit_s} s") from None

    def close(self, limit_s: float = math.inf) -> None:
        """Join the thread, and raise the call's error. See `Background.close`."""
        self._background.close(limit_s)
        if self._background.error is not None:
            raise self._background.error
