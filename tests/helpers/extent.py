"""How much of each robustness test is run.

`make test` runs a quick part, `make robustness` the whole: FER_STREAM_ROBUSTNESS is the share of the whole.
"""

from __future__ import annotations

import os

SHARE = float(os.environ.get("FER_STREAM_ROBUSTNESS", "0"))


def amount(quick: int, whole: int) -> int:
    """Return how many of something to do."""
    return max(quick, round(SHARE * whole))
