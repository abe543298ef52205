"""A feature whose packages are missing names the command that installs them, before anything else happens."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from helpers.paths import ROOT

from fer_stream.errors import UsageError
from fer_stream.system.extras import missing_modules, require_extra

# The command, the modules that are hidden from it, and the extra that its line names.
FEATURES = {
    "a Parquet table": (["-m", "fer_stream", "missing.mp4", "--data", "t.parquet"], ["pyarrow"], "parquet"),
    "a virtual camera": (
        ["-m", "fer_stream", "missing.mp4", "--virtual-camera"],
        ["pyvirtualcam"],
        "virtual-camera",
    ),
    "CUDA": (["-m", "fer_stream", "missing.mp4", "--device", "cuda"], ["torch", "timm"], "cuda"),
    "fer-batch": (["-m", "fer_stream.batch", "missing.mp4", "--output", "out"], ["ray", "fsspec"], "batch"),
    "fer-train": (["-m", "train", "missing"], ["torch", "timm"], "train"),
    "fer-train evaluate": (["-m", "train", "evaluate", "missing.pt", "missing"], ["torch"], "train"),
}


def hide(folder: Path, names: list[str]) -> Path:
    """Write a module that hides others from Python, as if they were not installed."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(f"import sys\nfor name in {names!r}: sys.modules[name] = None\n")
    return folder


@pytest.mark.parametrize("name", FEATURES)
def test_a_missing_extra_is_one_line_before_the_source_is_opened(name: str, tmp_path: Path) -> None:
    arguments, modules, extra = FEATURES[name]
    hidden = hide(tmp_path / "hidden", modules)
    (tmp_path / "cwd").mkdir()
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path / "cwd",
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(hidden), str(ROOT)))},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith(
        f" needs {' and '.join(modules)}; install with: pip install 'fer-stream[{extra}]'\n"
    )
    assert list((tmp_path / "cwd").iterdir()) == []


def test_a_folder_of_the_same_name_is_no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pyvirtualcam").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "pyvirtualcam", raising=False)
    assert missing_modules("virtual-camera") == ["pyvirtualcam"]
    with pytest.raises(UsageError, match="pip install 'fer-stream"):
        require_extra("virtual-camera", "--virtual-camera")


def test_a_loaded_module_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", types.ModuleType("pyvirtualcam"))
    require_extra("virtual-camera", "--virtual-camera")
