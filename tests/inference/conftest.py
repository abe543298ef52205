"""Fixtures for the choice of a device."""

from __future__ import annotations

import pytest

from fer_stream.inference import devices


@pytest.fixture
def cuda_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the test independent of the installed packages."""
    monkeypatch.setattr(devices, "missing_modules", lambda _: [])
    monkeypatch.setattr(devices, "require_extra", lambda *_: None)
