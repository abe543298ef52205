"""Packages of an unsupported version are named, with the command that installs another one."""

from __future__ import annotations

import pytest

from fer_stream.system.requirements import installation_problem


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"av": "16"}, None),
        ({"av": "15.1.0"}, "av 15.1.0 is too old; install another with: pip install 'av<19,>=16'"),
        ({"av": "19.0.2"}, "av 19.0.2 is too new; install another with: pip install 'av<19,>=16'"),
        ({"numpy": "1.9.3"}, "numpy 1.9.3 is too old; install another with: pip install 'numpy>=1.26'"),
        ({"numpy": None}, "numpy is not installed; install it with: pip install 'numpy>=1.26'"),
        ({"opencv-python": None, "opencv-python-headless": "5.0.0.93"}, None),
        (
            {"opencv-python": None, "opencv-contrib-python": "4.14.0.94"},
            "opencv-python 4.14.0.94 is too old; install another with: pip install 'opencv-python>=5'",
        ),
        ({"opencv-python": "5.0.0rc1"}, None),
    ],
)
def test_the_first_package_that_does_not_fit_is_named(installed_versions, changes, said) -> None:
    for name, version in changes.items():
        installed_versions.pop(name, None)
        if version is not None:
            installed_versions[name] = version
    assert installation_problem(AttributeError("FontFace")) == said


@pytest.mark.parametrize(
    ("library", "remedy"),
    [
        ("libGL.so.1", "on Debian or Ubuntu: apt install libgl1; or without windows: pip uninstall"),
        ("libfoo.so", "install the system package that contains it"),
    ],
)
def test_a_missing_system_library_is_named_with_a_remedy(library, remedy) -> None:
    error = ImportError(f"{library}: cannot open shared object file: No such file or directory")
    said = installation_problem(error)
    assert said is not None
    assert said.startswith(f"the system library {library} is missing; {remedy}")
