"""A plugin for pytest that marks the robustness tests, counts the faults that they try, and prints the sum.

The robustness tests are those in `tests/robustness`, and those that `docs/robustness.md` names. Each test
counts as one fault. A test that tries several says how many in its marker,
`@pytest.mark.robustness(faults=4)`, or counts them in the fixture `faults`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from fer_stream.words import counted
from helpers.paths import ROOT


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their markers
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    page = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    for item in items:
        is_one = ROOT / "tests" / "robustness" in item.path.parents or item.name.partition("[")[0] in named
        if is_one and item.get_closest_marker("robustness") is None:
            item.add_marker("robustness")


@dataclass
class Faults:
    """Faults that a test has tried so far, and those that did not end as promised."""

    tried: int = 0
    lost: int = 0


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Faults:
    """Count the faults of a test that tries many."""
    return _faults_of(request.node)


def _faults_of(item: pytest.Item) -> Faults:
    """Return the faults of a test; the test's report takes them along."""
    for name, value in item.user_properties:
        if name == "faults" and isinstance(value, Faults):
            return value
    marker = item.get_closest_marker("robustness")
    counts_itself = "faults" in getattr(item, "fixturenames", ())
    faults = Faults(0 if counts_itself or marker is None else marker.kwargs.get("faults", 1))
    item.user_properties.append(("faults", faults))
    return faults


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("robustness") is not None:
        _faults_of(item)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    tried = survived = 0
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    for report in reports:
        for _, value in report.user_properties if report.when == "call" else ():
            if isinstance(value, Faults):
                tried += value.tried
                lost = value.lost or int(report.failed and value.tried > 0)
                survived += value.tried - lost
    if tried:
        skipped = sum("robustness" in report.keywords for report in terminalreporter.getreports("skipped"))
        note = f"; skipped: {counted(skipped, 'test')}" if skipped else ""
        terminalreporter.write_line(f"robustness: {tried:,} faults tried, {survived:,} survived{note}")
