"""Distributions of the project, and environments that contain only the required packages."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.paths import ROOT

NOT_IN_A_CHECKOUT = shutil.ignore_patterns(
    ".git",
    ".venv",
    ".*_cache",
    "__pycache__",
    "*.egg-info",
    "build",
    "dist",
    "demo-output",
    "runs",
    ".hypothesis",
)
_NAME = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class Distributions:
    """The files that a release uploads."""

    wheel: Path
    sdist: Path

    def wheel_names(self) -> list[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return archive.namelist()

    def sdist_names(self) -> list[str]:
        """Return the names of the files, without the folder that holds all of them."""
        with tarfile.open(self.sdist) as archive:
            return [member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()]


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The wheel and the sdist, built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("build")
    checkout = shutil.copytree(ROOT, folder / "checkout", ignore=NOT_IN_A_CHECKOUT)
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", checkout],
        check=True,
        capture_output=True,
    )
    (wheel,), (sdist,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    return Distributions(wheel, sdist)


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        (folder,) = self.folder.glob("lib/python3*/site-packages")
        return folder

    def run(self, *arguments: object, cwd: Path, **options: object) -> subprocess.CompletedProcess[str]:
        """Run one of the environment's commands, such as `fer-stream`, without this process's settings."""
        program, *rest = map(str, arguments)
        return subprocess.run(
            [self.folder / "bin" / program, *rest],
            cwd=cwd,
            env={"PATH": "/usr/bin:/bin", "HOME": str(cwd)},
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
            **options,  # type: ignore[call-overload]
        )

    def remove(self, name: str) -> None:
        """Uninstall a distribution."""
        for path in _top_level_paths(name):
            (self.site_packages / path).unlink()


@pytest.fixture(scope="session")
def new_base_environment(
    tmp_path_factory: pytest.TempPathFactory, distributions: Distributions
) -> Callable[[], Environment]:
    """Return a function that makes environments with the wheel and its requirements, but without extras.

    The required packages are links to those of this process, so no network is needed.
    """
    if sys.platform == "win32":
        pytest.skip("links to installed packages need POSIX")

    def make() -> Environment:
        environment = Environment(tmp_path_factory.mktemp("environment"))
        venv.create(environment.folder, symlinks=True)
        for name in sorted(_required(_base_requirements())):
            for path in _top_level_paths(name):
                target = environment.site_packages / path
                if not target.is_symlink():
                    target.symlink_to(_site_packages_of(name) / path)
        subprocess.run(
            [sys.executable, "-m", "pip", "--python", environment.python, "install", "--quiet", "--no-deps",
             "--no-index", distributions.wheel],
            check=True,
        )  # fmt: skip
        return environment

    return make


@pytest.fixture(scope="session")
def base(new_base_environment: Callable[[], Environment]) -> Environment:
    """One such environment, for tests that do not change it."""
    return new_base_environment()


def _base_requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [str(each) for each in project["dependencies"] if "sys_platform" not in each]


def _required(requirements: list[str]) -> set[str]:
    """Return the names of the required distributions, including indirect requirements."""
    names: set[str] = set()
    pending = list(_names(requirements))
    while pending:
        name = pending.pop()
        if name not in names:
            names.add(name)
            pending += _names(importlib.metadata.requires(name) or [])
    return names


def _names(requirements: list[str]) -> Iterator[str]:
    for requirement in requirements:
        text, _, marker = requirement.partition(";")
        match = _NAME.match(text)
        # Markers such as `python_version < "3.12"`: what is not installed is not needed.
        if match and "extra" not in marker and _is_installed(match[0]):
            yield match[0].lower()


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _site_packages_of(name: str) -> Path:
    return Path(str(importlib.metadata.distribution(name).locate_file("")))


def _top_level_paths(name: str) -> set[str]:
    """Return the files and folders of site-packages that belong to a distribution."""
    files = importlib.metadata.files(name) or []
    return {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__", "bin")}
