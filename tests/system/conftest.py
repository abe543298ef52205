"""The installed packages, as the program sees them."""

from __future__ import annotations

import importlib.metadata

import pytest

REQUIREMENTS = ["av<19,>=16", "opencv-python>=5", "numpy>=1.26", "ray>=2.40; extra == 'batch'"]
SOUND = {"av": "18.1.0", "opencv-python": "5.0.0.93", "numpy": "2.4.6"}


@pytest.fixture
def installed_versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The installed distributions and their versions, to be changed by a test."""
    versions = dict(SOUND)

    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "requires", lambda _: REQUIREMENTS)
    monkeypatch.setattr(importlib.metadata, "version", version)
    return versions
