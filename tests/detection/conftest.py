"""Detectors, a tracker, and scenes of moving faces."""

from __future__ import annotations

import pytest
from helpers.cards import CountingDetector

from fer_stream.detection.detector import Detector
from fer_stream.detection.pace import ScanPace
from fer_stream.detection.tracker import Tracker


@pytest.fixture(scope="module")
def shipped():
    """The detector as facenet-pytorch ships it."""
    from facenet_pytorch import MTCNN

    return MTCNN(keep_all=True, min_face_size=40)


@pytest.fixture(scope="module")
def gpu_detector() -> Detector:
    """A detector that runs the GPU's code on the CPU, because cpu:0 is a torch device."""
    return Detector("cpu:0", min_face=40)


@pytest.fixture
def counting(detector: Detector) -> CountingDetector:
    """A detector that counts its calls."""
    return CountingDetector(detector)


@pytest.fixture
def tracker(counting: CountingDetector) -> Tracker:
    """A tracker that scans every five frames."""
    return Tracker(counting, ScanPace(every=5))  # type: ignore[arg-type]
