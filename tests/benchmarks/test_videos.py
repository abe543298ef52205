"""Compare the onsets of smoothed labels with those of unsmoothed ones."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path

import cv2
import pytest
from helpers.paths import SAMPLE
from videos import CUT_FRAMES, Readings, cut_delay, onset_errors

from fer_stream.analyzer import Analyzer
from fer_stream.sources import open_source

FRAME_S = 0.1


def readings(labels: str) -> Readings:
    """Return the readings of one face, given by one letter per frame."""
    names = {"n": "neutral", "h": "happy", "f": "fear", "s": "sad"}
    expressions = [{1: names[letter]} if letter in names else {} for letter in labels]
    return Readings([index * FRAME_S for index in range(len(labels))], expressions, expressions, {})


@pytest.mark.parametrize(
    ("unsmoothed", "smoothed", "errors"),
    [
        ("nnnnnhhhhh", "nnnnnhhhhh", [0]),
        ("nnnnnhhhhh", "nnnnnnnhhh", [2]),
        ("nnnnnhhhhh", "nnnnhhhhhh", [-1]),
        ("nnnnnhhhhh", "nnnnnnnnnn", [math.inf]),
        ("nnnnhhnnnn", "nnnnnnnnnn", []),  # too short to count
        ("nnnnhnhhhh", "nnnnhhhhhh", [0]),  # it flickers first: either start is right
        ("nnnnhnhhhh", "nnnnnnnhhh", [1]),
        ("nnnnfhhhhh", "nnnnnhhhhh", [0]),
        ("hhhhfhhhhh", "hhhhhhhhhh", []),  # nothing began
        ("nnnnhhhhssss", "nnnnnhhhhsss", [1, 1]),
        ("nnn..hhhhh", "nnn..hhhhh", [0]),
    ],
)
def test_an_onset_is_as_late_as_the_smoothed_label(
    unsmoothed: str, smoothed: str, errors: list[float]
) -> None:
    assert onset_errors(readings(unsmoothed), readings(smoothed)) == errors


def test_label_changes_are_counted_where_a_face_stays() -> None:
    changes, seconds = readings("nnhh.nnnf").label_changes()
    assert changes == 2  # the frame without the face does not count
    assert seconds == pytest.approx(6 * FRAME_S)


def test_the_share_of_expressions_is_a_share_of_the_faces() -> None:
    assert readings("nf.sn").share(("fear", "sad")) == 0.5
    assert readings("..").share(("fear", "sad")) == 0


def test_the_face_after_a_cut_is_new_within_two_frames(tmp_path: Path) -> None:
    halves = [tmp_path / "left.avi", tmp_path / "right.avi"]  # of the sample, with one person each
    with open_source(SAMPLE) as source:
        frames = [cv2.resize(frame.bgr, None, fx=0.5, fy=0.5) for frame in islice(source, CUT_FRAMES)]
    height, width = frames[0].shape[0], frames[0].shape[1] // 2
    for index, path in enumerate(halves):
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (width, height))
        for frame in frames:
            writer.write(frame[:, index * width : (index + 1) * width])
        writer.release()
    delay = cut_delay(Analyzer("cpu", scan_every=10), *halves)
    assert delay is not None and delay <= 2
