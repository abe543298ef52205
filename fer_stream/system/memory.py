"""Recognize errors that mean too little memory, whichever library raises them."""

from __future__ import annotations

import errno

_MESSAGES = (
    *("bad_alloc", "bad allocation", "not enough memory", "out of memory", "failed to allocate"),
    *("cannot allocate memory", "insufficient memory", "can't allocate", "unable to allocate"),
    "can't start new thread",  # no room for its stack
    "failed to map segment",  # while a shared library loads
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or one that caused it, means that memory ran out."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or getattr(seen, "errno", None) == errno.ENOMEM:
            return True
        text = str(seen).lower()
        if any(message in text for message in _MESSAGES):
            return True
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return False
