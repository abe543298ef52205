"""Fixtures for tests in every folder, and for the tests in this one."""

from __future__ import annotations

import importlib.util
import signal
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from helpers.checkpoints import checkpoint_content
from helpers.command import Said
from helpers.paths import SAMPLE, SHARED_DATA
from helpers.sample_clip import DecodedClip, decode_sample

if TYPE_CHECKING:
    from helpers.cards import Scene
    from people import PeopleScore

    from fer_stream.analyzer import Analyzer
    from fer_stream.detection.detector import Detector
    from fer_stream.types import Frame

pytest_plugins = ["helpers.faults"]


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Enable SIGINT and SIGHUP. Background jobs and `nohup` ignore them, and processes inherit that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """Fail the test if a thread that it started still runs at its end."""
    before = threading.active_count()
    yield
    assert threading.active_count() <= before


@pytest.fixture(scope="session")
def scene(hopper_bgr: np.ndarray) -> Scene:
    """A scene with cards of Grace Hopper."""
    from helpers.cards import Scene

    return Scene(hopper_bgr)


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
    """Train in one thread. More threads do not speed up such small steps, and slow down a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def half_size_clip() -> list[Frame]:
    """The beginning of the sample, at half its size."""
    from fer_stream.sources import open_source
    from fer_stream.types import Frame

    frames = []
    with open_source(SAMPLE, end_s=0.7) as source:
        for frame in source:
            half = cv2.resize(frame.bgr, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            frames.append(Frame(half, frame.index, frame.time_s))
    return frames


@pytest.fixture(scope="module")
def fer2013_pictures(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[int, np.ndarray]]:
    """Fifty of FER2013's validation pictures of each class: the class's index, and uint8 (48, 48, 3)."""
    from fer_stream.expressions import EXPRESSIONS

    most = 50
    folder, kept = tmp_path_factory.mktemp("fer2013"), dict.fromkeys(EXPRESSIONS, 0)
    with tarfile.open(shared_data / "fer2013.tar.xz", "r|xz") as archive:
        for member in archive:
            parts = Path(member.name).parts
            if member.isfile() and len(parts) == 4 and parts[1] == "validation":
                if kept[parts[2]] < most:
                    kept[parts[2]] += 1
                    content = archive.extractfile(member)
                    assert content is not None
                    (folder / f"{EXPRESSIONS.index(parts[2])}-{kept[parts[2]]}.png").write_bytes(
                        content.read()
                    )
                elif min(kept.values()) == most:
                    break
    assert set(kept.values()) == {most}
    images = []
    for path in sorted(folder.iterdir()):
        image = cv2.imread(str(path))
        assert image is not None
        images.append((int(path.name[0]), image))
    return images


def _score(analyzer: Analyzer, video: Path) -> PeopleScore:
    from people import LABELS_OF_VIDEOS, read_people, score_people
    from videos import read_video

    return score_people(read_people(LABELS_OF_VIDEOS[video.stem]), read_video(analyzer, video).boxes)


@pytest.fixture(scope="module")
def street_score(analyzer: Analyzer, shared_data: Path) -> PeopleScore:
    """A crowd of eleven, nine of whom show their faces."""
    return _score(analyzer, shared_data / "videos" / "street-1080p.mp4")


@pytest.fixture(scope="module")
def sample_score(analyzer: Analyzer) -> PeopleScore:
    """Two people, one of whom leaves for 2.7 s and returns."""
    return _score(analyzer, SAMPLE)


@pytest.fixture(scope="module")
def decoded_sample() -> DecodedClip:
    """The sample clip, decoded."""
    return decode_sample()


@pytest.fixture(scope="module")
def sample_script() -> ModuleType:
    """The module `make_sample.py`."""
    spec = importlib.util.spec_from_file_location("make_sample", SAMPLE.with_name("make_sample.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
