"""Fixtures for the tests of training: generated pictures and a few finished runs, made once."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.tiny_dataset import make_dataset
from helpers.training import CONFIG, STRONG, Recorder, write_votes

from train.loop import train


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    """Train in one thread. Such small steps gain nothing from more."""


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """28 training and 14 validation pictures."""
    return make_dataset(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def voted_data(tmp_path_factory) -> Path:
    """The same with FER+ votes for all pictures but the last of each class."""
    root = make_dataset(tmp_path_factory.mktemp("voted"))
    names = sorted({path.name for path in (root / "train").glob("*/*")})
    write_votes(root, {name: {"happiness": 7, "contempt": 3} for name in names[:-1]})
    return root


@contextmanager
def in_one_thread() -> Iterator[None]:
    """Train in one thread, as the tests do, because more threads change the last bits.

    Session fixtures are made before the module's own take effect.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def unbroken(data, tmp_path_factory):
    """A baseline run of two epochs: its folder, its result and what it reported."""
    output, recorder = tmp_path_factory.mktemp("unbroken"), Recorder()
    with in_one_thread():
        return output, train(data, output, CONFIG, reporter=recorder), recorder


@pytest.fixture(scope="session")
def strong_run(voted_data, tmp_path_factory):
    """A strong run of three epochs with votes: its folder and its result."""
    output = tmp_path_factory.mktemp("strong")
    with in_one_thread():
        return output, train(voted_data, output, STRONG)


@pytest.fixture(scope="session")
def taught(unbroken, voted_data, tmp_path_factory):
    """A strong run with a teacher: its settings, its folder and its result."""
    teacher = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    shutil.copy(unbroken[0] / "best-weights.pt", teacher)
    config, output = replace(STRONG, teachers=(str(teacher),)), tmp_path_factory.mktemp("taught")
    with in_one_thread():
        return config, output, train(voted_data, output, config)


CAPABILITY_VERSION_3 = 0x20080522  # from Linux's capability.h
READS_EVERYTHING = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


@contextmanager
def without_override() -> Iterator[None]:
    """Make the system check the permissions of this thread's files even if it is root's."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    before = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, twice
    assert libc.capget(header, before) == 0
    assert libc.capset(header, (ctypes.c_uint32 * 6)(before[0] & ~READS_EVERYTHING, *before[1:])) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


@pytest.fixture
def lock() -> Iterator[Callable[[Path], None]]:
    """Take away all permissions for a file or folder until the end of the test."""
    if sys.platform == "win32" or (sys.platform != "linux" and os.geteuid() == 0):
        pytest.skip("needs a system that denies this user access to a file")
    modes = {}

    def lock(path: Path) -> None:
        modes[path] = path.stat().st_mode
        path.chmod(0)

    with without_override():
        yield lock
        for path, mode in reversed(modes.items()):
            path.chmod(mode)
