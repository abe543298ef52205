"""Set how much of each robustness test runs.

`make test` runs a quick part and `make robustness` all of it. FER_STREAM_ROBUSTNESS is the share.
"""

from __future__ import annotations

import os

SHARE = float(os.environ.get("FER_STREAM_ROBUSTNESS", "0"))


def amount(quick: int, whole: int) -> int:
    """Return the number of repetitions."""
    return max(quick, round(SHARE * whole))
