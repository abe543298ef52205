"""Threads and their bounded queues: decoding, analysis and writing work on different frames at once.

The cores within a stage are the matter of `threads`. The worker's error comes to the reader, and the
thread is joined: the shape is that of PySceneDetect's scene manager.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

# On Windows a lock that is waited for without a limit holds back Ctrl-C until it is released.
_WAIT_S = 0.1

_T = TypeVar("_T")


def loaded(make: Callable[[], _T]) -> _T:
    """Returns what `make` returns, which runs in a thread of its own.

    An interrupt of the caller leaves that thread to end when it can, at the latest with the program.
    """

    def once() -> Iterator[_T]:
        yield make()

    return next(iter(Background(once())))


class Background(Generic[_T]):
    """Reads a source, or any other stage that yields frames, in a thread of its own.

    A recording is read with back-pressure: every frame comes, in order. A live source can't wait:
    with `drop_old` the newest frame takes the place of one that nobody has fetched.

    The source stays the caller's to close, afterwards:

        with open_source("clip.mp4") as source, Background(source) as frames:
            for frame in frames:
                ...

    Attributes:
        dropped: Number of frames that were replaced because the reader was too slow.
    """

    def __init__(self, source: Iterable[_T], *, queue_size: int = 8, drop_old: bool = False) -> None:
        """Starts reading.

        Args:
            source: What to iterate over, such as an open source; read by nobody else.
            queue_size: Items held ready at most, at least 1.
            drop_old: Hold only the newest frame, and never make the source wait.
        """
        if queue_size < 1:
            raise ValueError(f"a queue holds at least 1 frame, not {queue_size}")
        self.dropped = 0
        self._source = source
        self._drop_old = drop_old
        self._queue_size = 1 if drop_old else queue_size
        self._items: deque[_T] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._ended = False
        self._error: BaseException | None = None
        # A daemon, so that a second Ctrl-C while a camera hangs still ends the program.
        self._thread = threading.Thread(target=self._work, name="fer-stream-background", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            items = iter(self._source)
            for item in items:
                if not self._put(item):
                    break
            if isinstance(items, Generator):
                items.close()  # here, because what it holds may belong to this thread
        except BaseException as error:  # every error is the reader's, whatever it is
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, item: _T) -> bool:
        """Queues a frame, waiting for room; returns False when reading is to stop."""
        with self._changed:
            if self._drop_old:
                self.dropped += len(self._items)
                self._items.clear()
            while len(self._items) >= self._queue_size and not self._stopping:
                self._changed.wait()
            if self._stopping:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def __iter__(self) -> Iterator[_T]:
        """Yields the frames as they come; ends with the source, or when closed.

        Raises:
            FerStreamError: What ended the source, after the frames that came before it.
        """
        for item in self.beats(math.inf):
            if item is not None:
                yield item

    def beats(self, every_s: float) -> Iterator[_T | None]:
        """Yields the frames as they come, and None whenever none has come for some seconds.

        For a reader that has something to do while a live source is silent, such as asking a window
        for its keys.

        Args:
            every_s: Seconds to wait for a frame before each None.

        Raises:
            FerStreamError: What ended the source, after the frames that came before it.
        """
        while True:
            try:
                item = self._get(every_s)
            except TimeoutError:
                yield None
                continue
            if item is None:
                return
            yield item

    def peek(self) -> _T | None:
        """Waits for a frame and leaves it to be read; None where there is none any more.

        Raises:
            FerStreamError: What ended the source before it.
        """
        return self._get(math.inf, take=False)

    def _get(self, limit_s: float, *, take: bool = True) -> _T | None:
        deadline_s = time.monotonic() + limit_s
        with self._changed:
            while not (self._items or self._ended or self._stopping):
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError
                self._changed.wait(min(left_s, _WAIT_S))
            if self._stopping:
                return None
            if self._items and not take:
                return self._items[0]
            if self._items:
                frame = self._items.popleft()
                self._changed.notify_all()
                return frame
        if self._error is not None:
            raise self._error
        return None

    def stop(self) -> None:
        """Lets iteration end now, whatever is queued; takes no lock, for the handlers of signals."""
        self._stopping = True

    def close(self, limit_s: float = math.inf) -> None:
        """Stops reading and joins the thread; may be called more than once.

        It waits for what is being decoded or worked on.

        Args:
            limit_s: Wait no longer than this for a thread that nothing can interrupt; it then ends
                when it can, at the latest with the program.
        """
        deadline_s = time.monotonic() + limit_s
        with self._changed:
            self._stopping = True
            self._items.clear()
            self._changed.notify_all()
        # A reader that nobody has closed may be found at the end of the program, when threads run no more,
        # or by a thread that happens to collect garbage, and that may be this very one.
        if sys.is_finalizing() or self._thread is threading.current_thread():
            return
        while self._thread.is_alive() and (left_s := deadline_s - time.monotonic()) > 0:
            self._thread.join(min(left_s, _WAIT_S))

    def __enter__(self) -> Background[_T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
