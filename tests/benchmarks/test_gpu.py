"""The GPU benchmark also runs without a GPU, so that it works when there is one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT


@pytest.mark.slow
def test_the_benchmark_measures_everything_on_the_cpu(tmp_path: Path, shared_data: Path) -> None:
    figures = tmp_path / "gpu.json"
    done = subprocess.run(
        [
            *(sys.executable, ROOT / "benchmarks" / "gpu.py", "--device", "cpu", "--frames", "3"),
            *("--videos", shared_data / "videos", "--clips", "selfie-360p", "--json", figures),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(figures.read_text())
    assert measured["decode_fps"]["selfie-360p"]["cpu"] > 0
    assert measured["rates"]["selfie-360p cpu"]["table"]["frames"] == 3
    assert measured["two_at_once"]["errors"] == 0
    assert measured["crops_per_s"]["2"]["device"] > 0
    assert measured["training_pictures_per_s"] > 0
