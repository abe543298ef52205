"""fer-batch's settings, a clip, the command in this process, and a Ray cluster."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from helpers.archives import write_clip
from helpers.command import Said

from fer_stream.recognition.weights import BUILT_IN_WEIGHTS
from fer_stream.system.files import file_hash

if TYPE_CHECKING:
    from fer_stream.batch.inputs import Recording
    from fer_stream.batch.settings import Settings


@pytest.fixture(scope="module")
def clip(tmp_path_factory, hopper_bgr) -> Path:
    """A clip of Grace Hopper, 1.2 s long."""
    return write_clip(tmp_path_factory.mktemp("clip") / "hopper.mp4", hopper_bgr, 12)


@pytest.fixture
def settings() -> Settings:
    """The default settings."""
    from fer_stream.batch.settings import Settings

    return Settings(file_hash(BUILT_IN_WEIGHTS))


@pytest.fixture
def batch(capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run fer-batch in this process."""
    from fer_stream.batch import cli

    def run(*arguments: object) -> Said:
        capfd.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        return Said(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """A Ray cluster of two processes on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        # A short path: the names of sockets end at about a hundred characters.
        folder = tempfile.mkdtemp(prefix="fer-ray-", dir="/tmp" if os.name == "posix" else None)
        patch.setenv("RAY_TMPDIR", folder)
        made = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 2,
                "num_gpus": 0,
                "object_store_memory": 100 * 2**20,
                "include_dashboard": False,
            },
        )
        yield made
        made.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def recording(tmp_path: Path, hopper_bgr: np.ndarray) -> Recording:
    """Three seconds of a face, ten frames a second."""
    path = tmp_path / "archive" / "a.avi"
    path.parent.mkdir()
    size_wh = (160, 192)
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, size_wh)
    for _ in range(30):
        out.write(cv2.resize(hopper_bgr, size_wh, interpolation=cv2.INTER_AREA))
    out.release()
    from fer_stream.batch.inputs import find_recordings

    (found,) = find_recordings([str(path)])
    return found
