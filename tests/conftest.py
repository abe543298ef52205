"""Fixtures that several test files share: the networks, loaded once, and a real face."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from helpers.checkpoints import checkpoint_content
from helpers.command import Said
from helpers.paths import SHARED_DATA

if TYPE_CHECKING:
    from fer_stream.analyzer import Analyzer
    from fer_stream.detection.detector import Detector

pytest_plugins = ["helpers.faults"]


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Enable SIGINT. A shell's background jobs ignore it, and the tests' processes would inherit that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def detector() -> Detector:
    """A detector of faces from 40 px."""
    from fer_stream.detection.detector import Detector

    return Detector("cpu", min_face=40)


@pytest.fixture(scope="session")
def analyzer() -> Analyzer:
    """An analyzer with the built-in weights and the default settings."""
    from fer_stream.analyzer import Analyzer

    return Analyzer(device="cpu")


@pytest.fixture(scope="session")
def hopper_bgr() -> np.ndarray:
    """Grace Hopper, a photograph of one face, uint8 (600, 512, 3), read-only."""
    from matplotlib import cbook

    picture = cv2.imread(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    assert picture is not None
    picture.flags.writeable = False
    return picture


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of data for work and tests. Skip the test if it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the videos and FER2013 of ../shared/data")
    return SHARED_DATA


@pytest.fixture
def fer(capfd: pytest.CaptureFixture[str], monkeypatch, tmp_path) -> Callable[..., Said]:
    """Run the command in this process, in an empty folder."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")

    from fer_stream.command import cli

    def run(*arguments: object) -> Said:
        capfd.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        return Said(code, *capfd.readouterr())

    return run


@pytest.fixture
def no_network(monkeypatch) -> None:
    """Fail a run that gets as far as making the analyzer."""

    def load(*_arguments: object, **_options: object) -> None:
        raise AssertionError("the networks were loaded")

    monkeypatch.setattr("fer_stream.analyzer.Analyzer.__init__", load)


@pytest.fixture
def loaded(monkeypatch, analyzer) -> None:
    """Make the command use the networks that are already loaded, with its own settings."""

    def take(self, device="auto", weights=None, *, min_face=40, profile=None, **settings) -> None:
        from fer_stream.profiling import Profile

        vars(self).update(vars(analyzer))
        self._profile = profile or Profile()
        for name, value in settings.items():
            setattr(self, f"_{name}", value)

    monkeypatch.setattr("fer_stream.analyzer.Analyzer.__init__", take)


@pytest.fixture
def content() -> dict:
    """The content of a small checkpoint that passes every check of its fields."""
    return checkpoint_content()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Train in one thread. Such small steps gain nothing from more, which spin beside busy processes."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
