"""Inputs that fuzzing found, tried again: all that it kept for their coverage, and all that once failed."""

from __future__ import annotations

import pytest
from helpers.faults import Faults
from helpers.paths import ROOT
from robustness.fuzz_targets import TARGETS

CORPUS = ROOT / "tests" / "data" / "fuzz"


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_of_the_corpus_is_read_or_refused(faults: Faults, name: str) -> None:
    if name == "manifest":
        pytest.importorskip("pyarrow")
    paths = sorted((CORPUS / name).iterdir())
    assert len(paths) > 3
    for path in paths:
        faults.tried += 1
        try:
            TARGETS[name](path.read_bytes())
        except Exception as error:
            pytest.fail(f"{path}: {type(error).__name__}: {error}")
