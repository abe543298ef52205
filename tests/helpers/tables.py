"""Read tables."""

from __future__ import annotations

import csv
from pathlib import Path


def csv_rows(path: str | Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, by column."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
