"""In a real recording, smoothed labels begin at the same time as unsmoothed ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from videos import onset_errors, read_video

if TYPE_CHECKING:
    from fer_stream.analyzer import Analyzer


def test_a_smile_begins_when_it_is_first_seen(analyzer: Analyzer, shared_data: Path) -> None:
    from fer_stream.analyzer import Analyzer

    video = shared_data / "videos" / "selfie-360p.mp4"
    unsmoothed, smoothed = read_video(Analyzer("cpu", smooth_s=0), video), read_video(analyzer, video)
    (error,) = onset_errors(unsmoothed, smoothed)
    assert abs(error) <= 1  # frame
    changes, _ = smoothed.label_changes()
    assert changes == 1
