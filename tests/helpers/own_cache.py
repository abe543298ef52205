"""Where a test process keeps its cache."""

from __future__ import annotations

import sys
from pathlib import Path


def cache_environment(folder: Path) -> dict[str, str]:
    """Return the environment variables that put the cache of exported networks under a folder."""
    if sys.platform == "win32":
        return {"LOCALAPPDATA": str(folder)}
    return {"HOME" if sys.platform == "darwin" else "XDG_CACHE_HOME": str(folder)}
