"""Finish several things, even if one of them fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def first_error(
    calls: Iterable[Callable[[], object]], kinds: tuple[type[BaseException], ...] = (BaseException,)
) -> BaseException | None:
    """Make every call, even if one fails. Return the first error, or None.

    Args:
        calls: The calls, in order.
        kinds: The errors that are caught. Others are raised at once.
    """
    first: BaseException | None = None
    for call in calls:
        try:
            call()
        except kinds as error:
            first = first or error
    return first
