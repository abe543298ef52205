"""Read an iterable up to its end or its first error, and raise the error later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

_T = TypeVar("_T")


class ErrorLast(Generic[_T]):
    """Passes items on until the iterable ends or raises. The error waits for `raise_error`.

    A stage that holds items back uses it to hand them on before the error:

        frames = ErrorLast(source)
        for frame in frames:
            ...
        yield from waiting
        frames.raise_error()

    Args:
        items: The iterable.
    """

    def __init__(self, items: Iterable[_T]) -> None:
        self._items = iter(items)
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[_T]:
        return self

    def __next__(self) -> _T:
        if self._error is not None:
            raise StopIteration
        try:
            return next(self._items)
        except StopIteration:
            raise
        except Exception as error:
            self._error = error
            raise StopIteration from None

    def raise_error(self) -> None:
        """Raise the error that ended the iterable; return if there was no error."""
        if self._error is not None:
            raise self._error
