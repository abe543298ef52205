"""Pass results of the pipeline to the readers of the page, without ever waiting for a reader.

The pipeline's thread puts the newest item into each channel. Readers wait in the server's event loop and take
the newest item when they are ready. A slow reader misses the items in between, so nothing queues up.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Generic, TypeVar

import numpy as np

_T = TypeVar("_T")


class Bell:
    """Wakes all readers that wait for a new item. It belongs to the event loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake the readers that are waiting now. Readers that come later wait for the next ring."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self) -> None:
        """Wait until it rings."""
        await self._event.wait()


class Channel(Generic[_T]):
    """The newest item of one kind.

    Args:
        bell: The bell to ring for each new item. Channels may share one.

    Attributes:
        readers: Number of readers. May be read in any thread.
        newest: The newest item; None before the first.
        number: Number of items so far.
        closed: Whether the newest item is the last.
    """

    def __init__(self, bell: Bell) -> None:
        self.readers = 0
        self.newest: _T | None = None
        self.number = 0
        self.closed = False
        self._bell = bell
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connect the channel with its readers' event loop. Call it in that loop, before the first reader."""
        self._loop = loop

    def put(self, item: _T) -> None:
        """Replace the newest item. May be called in any thread."""
        self._call(lambda: self._set(item))

    def close(self) -> None:
        """Make every reader end after the newest item. May be called in any thread."""
        self._call(self._end)

    async def items(self, *, include_current: bool = False) -> AsyncGenerator[_T, None]:
        """Yield each newest item once, until the channel is closed.

        Args:
            include_current: Whether to begin with the current item, if there is one.
        """
        async with aclosing(merged({"": self}, include_current=include_current)) as items:
            async for _, item in items:
                yield item

    def _call(self, action: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and every reader with it
                self._loop.call_soon_threadsafe(action)

    def _set(self, item: _T) -> None:
        self.newest = item
        self.number += 1
        self._bell.ring()

    def _end(self) -> None:
        self.closed = True
        self._bell.ring()

    async def wait(self) -> None:
        """Wait until there may be a new item."""
        await self._bell.wait()


async def merged(
    channels: Mapping[str, Channel[_T]], *, include_current: bool = False
) -> AsyncGenerator[tuple[str, _T], None]:
    """Yield the newest items of several channels with the channel's name, until all channels are closed.

    Args:
        channels: Channels that share one bell, by name.
        include_current: Whether to begin with the current items, if there are any.
    """
    seen = {name: 0 if include_current else channel.number for name, channel in channels.items()}
    for channel in channels.values():
        channel.readers += 1
    try:
        while True:
            fresh = [name for name, channel in channels.items() if channel.number > seen[name]]
            for name in fresh:
                seen[name] = channels[name].number
                item = channels[name].newest
                if item is not None:
                    yield name, item
            if not fresh:
                if all(channel.closed for channel in channels.values()):
                    return
                await next(iter(channels.values())).wait()
    finally:
        for channel in channels.values():
            channel.readers -= 1


class Hub:
    """The channels of one page.

    Attributes:
        frames: A JSON object for each frame.
        images: The annotated picture of each frame, uint8 BGR (H, W, 3).
        status: A JSON object about the run.
        loop_ready: Set when the server's event loop is connected.
    """

    def __init__(self) -> None:
        bell = Bell()
        self.frames: Channel[bytes] = Channel(bell)
        self.images: Channel[np.ndarray] = Channel(bell)
        self.status: Channel[bytes] = Channel(bell)
        self.loop_ready = threading.Event()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connect the channels with the server's event loop. Call it in that loop."""
        for channel in (self.frames, self.images, self.status):
            channel.attach(loop)
        self.loop_ready.set()

    def close(self) -> None:
        """Make every reader end."""
        for channel in (self.frames, self.images, self.status):
            channel.close()
