"""The count of faults at the end of `make robustness`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from helpers.paths import ROOT

TESTS = """
import pytest
pytestmark = pytest.mark.robustness

def test_one(): pass

@pytest.mark.robustness(faults=3)
def test_three(): pass

def test_five_of_which_two_are_lost(faults):
    faults.tried, faults.lost = 5, 2
    assert not faults.lost

def test_that_stops_at_the_second(faults):
    for _ in range(9):
        faults.tried += 1
        assert faults.tried < 2

@pytest.mark.skip
def test_nothing(): pass
"""


@pytest.mark.robustness(faults=0)
def test_the_last_line_says_how_many_faults_were_tried_and_survived(tmp_path) -> None:
    (tmp_path / "test_a.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = robustness\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "helpers.faults", "-p", "no:cacheprovider"],
        check=False, capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
    )  # fmt: skip
    assert "robustness: 11 faults tried, 8 survived; skipped: 1 test" in done.stdout, done.stdout
