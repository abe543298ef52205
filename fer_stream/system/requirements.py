"""Explain errors whose cause is the installation: a package too old, or a system library missing."""

from __future__ import annotations

import re
import traceback

_OPENCV_WHEELS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
# A requirement of every installation, such as "av<19,>=16". Requirements of an extra or of one system have a
# marker and do not match.
_REQUIREMENT = re.compile(r"([\w.-]+?)((?:[<>]=?[\d.]+,?)+)")


def installation_problem(error: Exception) -> str | None:
    """Return one line about a problem with the installation, or None if it is sound.

    Call it only after an error that a sound installation can't cause. It reads the metadata of every package,
    which would take too long at each start.

    Args:
        error: An ImportError, or an error from calling another version of a package.
    """
    library = re.search(
        r"(\S+\.so[.\d]*): (?:cannot open shared object file|file too short|invalid ELF header)", str(error)
    )
    if library is not None:
        remedy = "install the system package that contains it"
        if library[1].startswith("libGL"):
            remedy = (
                "on Debian or Ubuntu: apt install libgl1; or without windows: "
                "pip uninstall opencv-python && pip install opencv-python-headless"
            )
        return f"the system library {library[1]} is missing; {remedy}"
    return _unmet_requirement()


def broken_module(error: Exception) -> str | None:
    """Return the name of the package whose import raised an error, or None if the error is another one."""
    names = [
        frame.f_globals.get("__name__", "").partition(".")[0]
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_name == "<module>"
    ]
    others = [name for name in names if name not in ("__main__", "fer_stream", "train")]
    return others[0] if others else None


def _unmet_requirement() -> str | None:
    import importlib.metadata

    def version(name: str) -> str | None:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None

    try:
        requirements = importlib.metadata.requires("fer-stream") or []
    except importlib.metadata.PackageNotFoundError:  # runs from its folder, not installed
        return None
    for requirement in requirements:
        parts = _REQUIREMENT.fullmatch(requirement)
        if parts is None:
            continue
        name, bounds = parts.groups()
        candidates = _OPENCV_WHEELS if name == "opencv-python" else (name,)
        installed = [number for candidate in candidates if (number := version(candidate)) is not None]
        if not installed:
            return f"{name} is not installed; install it with: pip install '{requirement}'"
        newest = max(installed, key=_numbers)
        for bound in bounds.split(","):
            limit = _numbers(bound.strip("<>="))
            if bound.startswith(">=") and _numbers(newest) < limit:
                return f"{name} {newest} is too old; install another with: pip install '{requirement}'"
            if bound.startswith("<") and _numbers(newest) >= limit:
                return f"{name} {newest} is too new; install another with: pip install '{requirement}'"
    return None


def _numbers(version: str) -> list[int]:
    """Return the leading numbers of a version: [5, 0, 0] for 5.0.0rc1."""
    return [int(part) for part in re.findall(r"\d+", re.split(r"[a-z+]", version)[0])]
