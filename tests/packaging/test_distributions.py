"""The project is ready for a release: a small wheel, a complete sdist, and metadata that an index accepts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT

MAX_WHEEL_BYTES = 15e6


@pytest.mark.slow
def test_the_wheel_holds_the_program_and_its_networks(distributions) -> None:
    assert distributions.wheel.stat().st_size <= MAX_WHEEL_BYTES
    names = distributions.wheel_names()
    packages = {name.split("/")[0] for name in names}
    assert {package for package in packages if not package.endswith(".dist-info")} == {"fer_stream", "train"}
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in ("fer_stream", "train")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert expected <= set(names)
    licenses = {name.rsplit("/", 1)[1] for name in names if "/licenses/" in name}
    assert licenses == {"LICENSE", "LICENSE-facenet-pytorch.md"}


@pytest.mark.slow
def test_the_sdist_holds_everything_that_is_under_version_control(distributions) -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    listed = subprocess.run(
        [git, "-C", ROOT, "ls-files", "--cached", "-z"], check=True, capture_output=True, text=True
    ).stdout
    tracked = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
    assert tracked - set(distributions.sdist_names()) == set()


@pytest.mark.slow
def test_an_index_accepts_the_metadata(distributions) -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", distributions.wheel, distributions.sdist],
        check=False,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_no_file_of_the_package_is_missing_from_version_control() -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    ignored = subprocess.run(
        [git, "-C", ROOT, "ls-files", "--others", "--ignored", "--exclude-standard", "fer_stream", "train"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert [name for name in ignored if Path(name).suffix != ".pyc"] == []
