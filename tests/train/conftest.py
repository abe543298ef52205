"""What the tests of training share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    """Train in one thread: steps this small gain nothing from more."""
