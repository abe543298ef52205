"""Paths of the repository, the sample clip and the shared data."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "two-faces-720p.mp4"
SHARED_DATA = ROOT.parent / "shared" / "data"
SHARED_VIDEOS = SHARED_DATA / "videos"
