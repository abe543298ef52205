"""Hands what the pipeline makes to those who look at the page, and never waits for any of them.

The pipeline's thread puts in the newest of everything. Readers wait in the server's event loop and take the
newest when they are ready. A slow reader loses whatever came in between, so nothing queues up.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Generic, TypeVar

import numpy as np

_T = TypeVar("_T")


class Channel(Generic[_T]):
    """The newest item of one kind, and those who wait for it.

    Attributes:
        readers: Number of readers; may be read in any thread.
        newest: The newest item; None before the first.
    """

    def __init__(self) -> None:
        self.readers = 0
        self.newest: _T | None = None
        self._number = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._closed = False

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connect the channel with the event loop of its readers; called in that loop, before the first."""
        self._loop, self._changed = loop, asyncio.Event()

    def put(self, item: _T) -> None:
        """Replace the newest item. May be called in any thread."""
        self._call(lambda: self._set(item))

    def close(self) -> None:
        """Let every reader end after the newest item. May be called in any thread."""
        self._call(self._end)

    async def items(self, *, newest_first: bool = False) -> AsyncGenerator[_T, None]:
        """Yield the newest item again and again, each only once; end when the channel is closed.

        Args:
            newest_first: Begin with the item that is there already, if any.
        """
        seen = 0 if newest_first else self._number
        self.readers += 1
        try:
            while True:
                if self._number > seen and self.newest is not None:
                    seen = self._number
                    yield self.newest
                elif self._closed:
                    return
                else:
                    await self._changed.wait()
        finally:
            self.readers -= 1

    def _call(self, action: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and every reader with it
                self._loop.call_soon_threadsafe(action)

    def _set(self, item: _T) -> None:
        self.newest = item
        self._number += 1
        self._wake()

    def _end(self) -> None:
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        # Wakes those who wait now; whoever comes later waits for the next item.
        self._changed.set()
        self._changed = asyncio.Event()


class Hub:
    """The channels of one page.

    Attributes:
        frames: A JSON object for each frame.
        images: The annotated picture of each frame, uint8 BGR (H, W, 3).
        status: A JSON object about the run.
        loop_ready: Set when the server's event loop is connected.
    """

    def __init__(self) -> None:
        self.frames: Channel[bytes] = Channel()
        self.images: Channel[np.ndarray] = Channel()
        self.status: Channel[bytes] = Channel()
        self.loop_ready = threading.Event()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connect the channels with the server's event loop; called in that loop."""
        for channel in (self.frames, self.images, self.status):
            channel.attach(loop)
        self.loop_ready.set()

    def close(self) -> None:
        """Let every reader end."""
        for channel in (self.frames, self.images, self.status):
            channel.close()
