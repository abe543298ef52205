"""Calls that run side by side in a few threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from fer_stream.system.background import POOL_THREADS

_T = TypeVar("_T")
_Item = TypeVar("_Item")


class ThreadPool:
    """Threads for calls that are submitted one by one.

    Args:
        threads: Number of threads.
    """

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=POOL_THREADS)
        self._closed = False

    def submit(self, call: Callable[..., _T], *arguments: object) -> Future[_T]:
        """Start a call as soon as a thread is free.

        When the main thread exits, Python refuses new work in pools. Another thread of the program may still
        be analyzing, so the call then runs in that thread.
        """
        try:
            return self._executor.submit(call, *arguments)
        except RuntimeError as error:
            # At first the main thread still counts as alive, because it waits for the threads of all pools.
            # So only the message tells this from a system that can't start another thread.
            if self._closed or "shutdown" not in str(error):
                raise
            future: Future[_T] = Future()
            try:
                future.set_result(call(*arguments))
            except BaseException as error:
                future.set_exception(error)
            return future

    def close(self) -> None:
        """Cancel the calls that have not begun, and wait for the others."""
        self._closed = True
        self._executor.shutdown(cancel_futures=True)

    def __enter__(self) -> ThreadPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def side_by_side(do: Callable[[_Item], _T], items: Sequence[_Item], threads: int) -> list[_T]:
    """Return `do(item)` for each item, in order.

    Args:
        do: The function. Calls that have not begun are dropped after an error.
        items: The items.
        threads: Number of calls at the same time, one of them in the caller's thread.
    """
    if threads == 1 or len(items) < 2:
        return [do(item) for item in items]
    with ThreadPool(threads - 1) as pool:
        futures = [pool.submit(do, item) for item in items[1:]]
        return [do(items[0]), *(future.result() for future in futures)]
