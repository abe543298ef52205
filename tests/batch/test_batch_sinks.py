"""The sinks of a recording in an archive."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")

from helpers.contexts import make_info

from fer_stream.batch.inputs import Recording
from fer_stream.batch.output_folder import FOLDERS
from fer_stream.batch.settings import Settings
from fer_stream.batch.work import _sink

RECORDING = Recording("/nowhere/a.mp4", "a.mp4", 1, "stamp")


def test_each_folder_of_the_output_has_its_own_sink(tmp_path: Path) -> None:
    settings = Settings("", save=True, chart=True, report=True, episodes="csv")
    assert set(settings.folders) == set(FOLDERS)
    names = {}
    for folder in set(FOLDERS) - {"tables"}:
        path = tmp_path / f"a{settings.suffix(folder)}"
        names[folder] = _sink(folder, path, path, make_info(), RECORDING).name
    assert names == {"videos": "video", "charts": "chart", "reports": "report", "episodes": "episodes"}
    with pytest.raises(NotImplementedError, match="'crops'"):
        _sink("crops", tmp_path, tmp_path, make_info(), RECORDING)
