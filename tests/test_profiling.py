"""A profile measures how long each stage takes, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from fer_stream.profiling import KEPT_SAMPLES, Profile


def test_known_durations_give_their_mean_and_percentiles() -> None:
    profile = Profile()
    for duration_ms in range(1, 101):
        profile.add("detect", duration_ms / 1000)
        profile.add_latency(duration_ms / 500)
    detect = profile.stages_ms()["detect"]
    assert detect["mean"] == pytest.approx(50.5)
    assert detect["p50"] == pytest.approx(50.5)
    assert detect["p95"] == pytest.approx(95.05)
    assert profile.latency_ms()["p95"] == pytest.approx(190.1)


def test_a_failing_stage_is_timed_too() -> None:
    profile = Profile()
    with pytest.raises(RuntimeError), profile.stage("encode"):
        time.sleep(0.02)
        raise RuntimeError
    assert 15 <= profile.stages_ms()["encode"]["mean"] < 2000


def test_time_spent_on_several_frames_is_spread_over_them() -> None:
    profile = Profile()
    profile.add("classify", 0.08, frames=8)
    assert profile.stages_ms()["classify"]["mean"] == pytest.approx(10)


def test_a_long_run_keeps_the_percentiles_in_bounded_memory() -> None:
    profile, durations_s = Profile(), np.random.default_rng(5).gamma(2.0, 0.01, 100_000)
    for duration_s in durations_s:
        profile.add("detect", float(duration_s))
    detect = profile.stages_ms()["detect"]
    assert len(profile._stages["detect"].kept) < KEPT_SAMPLES
    assert detect["mean"] == pytest.approx(1000 * durations_s.mean(), rel=1e-4)
    assert detect["p50"] == pytest.approx(1000 * np.percentile(durations_s, 50), rel=0.06)
    assert detect["p95"] == pytest.approx(1000 * np.percentile(durations_s, 95), rel=0.06)


def test_an_empty_profile_has_no_stages() -> None:
    assert Profile().stages_ms() == {}
    assert Profile().latency_ms() == {"p50": 0.0, "p95": 0.0}


def test_peak_memory_grows_with_held_memory() -> None:
    # In a process of its own: the peak of this one may be any test's.
    code = """
from fer_stream.profiling import peak_rss_mb
before_mb = peak_rss_mb()
held = b"x" * int((before_mb + 100) * 2**20)
print(before_mb, peak_rss_mb())
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before_mb, after_mb = map(float, result.stdout.split())
    assert 5 < before_mb < 500
    assert before_mb + 50 < after_mb < 3 * before_mb + 200
