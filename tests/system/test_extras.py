"""Packages of extras: tests/packaging runs the commands in an environment that lacks them."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from fer_stream.errors import UsageError
from fer_stream.system.extras import missing_modules, require_extra


def test_a_folder_with_the_name_of_a_package_is_not_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pyvirtualcam").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "pyvirtualcam", raising=False)
    assert missing_modules("virtual-camera") == ["pyvirtualcam"]
    with pytest.raises(UsageError, match=r"pip install '.\[virtual-camera\]'"):
        require_extra("virtual-camera", "--virtual-camera")


def test_a_loaded_module_counts_as_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", types.ModuleType("pyvirtualcam"))
    assert missing_modules("virtual-camera") == []
    require_extra("virtual-camera", "--virtual-camera")


@pytest.mark.parametrize("error", [ModuleNotFoundError("hidden"), ValueError("damaged")])
def test_a_module_that_an_import_hook_hides_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    class Hides:
        def find_spec(self, name: str, *_: object) -> None:
            raise error

    monkeypatch.delitem(sys.modules, "pyvirtualcam", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Hides(), *sys.meta_path])
    assert missing_modules("virtual-camera") == ["pyvirtualcam"]
