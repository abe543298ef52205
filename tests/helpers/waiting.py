"""Wait for something that another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(is_true: Callable[[], object], limit_s: float = 15.0) -> None:
    """Return as soon as the function returns a true value. Fail if that takes longer than the limit."""
    deadline_s = time.monotonic() + limit_s
    while not is_true():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.01)
