"""The speed benchmark runs from its clip to its table."""

from __future__ import annotations

import subprocess
import sys

from helpers.paths import ROOT


def test_the_benchmark_prints_a_line_for_each_row() -> None:
    done = subprocess.run(
        [
            *(sys.executable, ROOT / "benchmarks" / "pipeline.py", "--frames", "4", "--rounds", "1"),
            *("--clips", "made-1", "--rows", "floor", "ours", "--checks"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    floor, ours = (line.split() for line in done.stdout.splitlines()[-2:])
    assert floor[:2] == ["made-1", "floor"] and floor[-1] == "0"
    assert ours[:2] == ["made-1", "ours"] and ours[-1] == "4"  # a face in each frame
