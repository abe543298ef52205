"""The learning rate and the gentle part of a run."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.training import CONFIG, STRONG

from train.clock import Clock
from train.parallel import Processes
from train.schedule import gentle_epochs, schedule_of


def test_the_learning_rate_rises_and_falls_or_stays_in_the_baseline():
    whole = schedule_of(replace(STRONG, epochs=1, gentle_share=0.0))
    rates = [whole.learning_rate(progress) for progress in (0, 0.1, 0.2, 0.6, 0.9999)]
    assert rates == pytest.approx([0.00001, 0.000505, 0.001, 0.0005, 0], abs=1e-8)
    # With a gentle epoch it does so twice, and not as high the second time.
    third = schedule_of(replace(STRONG, epochs=3, gentle_share=0.25, gentle_lr=0.6))
    steps = (0, 2000, 6000, 9999, 10_000, 11_000, 13_000, 14_999)
    rates = [third.learning_rate(step / 15_000) for step in steps]
    assert rates == pytest.approx([0.00001, 0.001, 0.0005, 0, 0.000006, 0.0006, 0.0003, 0], abs=1e-7)
    assert [third.is_gentle(step / 15_000) for step in (9999, 10_000)] == [False, True]
    baseline = schedule_of(CONFIG)
    assert {baseline.learning_rate(progress) for progress in (0, 0.5, 1)} == {0.001}
    assert not any(baseline.is_gentle(progress) for progress in (0, 0.5, 0.999))


def test_a_run_by_the_clock_follows_it_and_leaves_time_for_its_last_validation(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    config = replace(STRONG, minutes=10)
    clock = Clock(config, 30, 0.5, elapsed_s=60.0, began_s=100.0, processes=Processes())
    assert clock.progress(10**6) == pytest.approx(60 / 597)
    assert not clock.validation_is_due(0.5)
    for _ in range(5):
        now[0] += 2.0
        clock.progress(0)
    # A step takes 2 s, so the validation of 15 batches without backward passes about 10.
    assert clock.progress(0) == pytest.approx(70 / 587, rel=1e-2)
    now[0] += 20
    assert clock.validation_is_due(0.5) and clock.left_s() == 510
    clock.validated(27.0)
    assert not clock.validation_is_due(0.5) and clock.validation_is_due(1.0)
    now[0] = 100 + 510
    assert clock.progress(0) == 1.0
    by_epochs = Clock(STRONG, 5, 0.5, elapsed_s=0.0, began_s=0.0, processes=Processes())
    assert [by_epochs.progress(step) for step in (0, 3, 15)] == pytest.approx([0, 0.2, 1])
    assert by_epochs.validation_is_due(0.1) and by_epochs.left_s() is None


def test_the_gentle_part_is_a_whole_number_of_epochs():
    lengths = {
        epochs: gentle_epochs(replace(STRONG, epochs=epochs, gentle_share=0.25))
        for epochs in (1, 2, 3, 4, 6, 60)
    }
    assert lengths == {1: 0, 2: 1, 3: 1, 4: 1, 6: 2, 60: 15}
