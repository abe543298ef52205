"""Calls side by side: each runs once, results are in order, and errors reach the caller."""

from __future__ import annotations

import threading

import pytest

from fer_stream.inference.threads import Workers, early_scan_threads, splits_early_scans


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_each_item_is_done_once_and_in_order(threads: int, count: int) -> None:
    before = threading.active_count()
    assert Workers(threads).map(lambda item: item * 10, range(count)) == [10 * item for item in range(count)]
    assert threading.active_count() == before


def test_two_things_are_done_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=10)
    assert sorted(Workers(2).map(lambda _: both.wait(), range(2))) == [0, 1]


def test_one_thread_means_the_callers_thread() -> None:
    assert Workers(1).map(lambda _: threading.get_ident(), range(3)) == [threading.get_ident()] * 3


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_an_error_reaches_the_caller(bad: int) -> None:
    with pytest.raises(ZeroDivisionError):
        Workers(2).map(lambda item: 1 // (item - bad), range(3))


@pytest.mark.parametrize("count", [1, 7, 8, 9, 311])
def test_parts_cover_everything_evenly(count: int) -> None:
    parts = Workers(2).parts(count)
    assert [index for part in parts for index in range(count)[part]] == list(range(count))
    sizes = [len(range(count)[part]) for part in parts]
    assert len(parts) == (2 if count >= 8 else 1)
    assert max(sizes) - min(sizes) <= 1


def test_threads_are_shared_between_workers_and_networks() -> None:
    assert [Workers(threads).network_threads for threads in (1, 2, 3, 8, 16)] == [1, 1, 1, 4, 4]


def test_frames_are_scanned_early_from_two_cores_on_and_with_a_gpu_from_four() -> None:
    counts = (1, 2, 3, 4, 8, 16, 64)
    assert [early_scan_threads("cpu", threads) for threads in counts] == [0, 2, 2, 1, 2, 3, 3]
    assert [early_scan_threads("cuda:0", threads) for threads in counts] == [0, 0, 0, 1, 1, 1, 1]
    assert [splits_early_scans(threads) for threads in counts] == [False] * 3 + [True] * 4
