"""Tell an error of too little memory from any other, whichever library raises it."""

from __future__ import annotations

import errno

_MESSAGES = (
    *("bad_alloc", "bad allocation", "not enough memory", "out of memory", "failed to allocate"),
    *("cannot allocate memory", "insufficient memory", "can't allocate", "unable to allocate"),
    "can't start new thread",  # its stack finds no room
    "failed to map segment",  # of a shared library
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or what caused it, says that memory ran out."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or getattr(seen, "errno", None) == errno.ENOMEM:
            return True
        text = str(seen).lower()
        if any(message in text for message in _MESSAGES):
            return True
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return False
