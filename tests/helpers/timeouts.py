"""Shorten the time that network streams wait."""

from __future__ import annotations

import pytest

from fer_stream.sources import network, web


def set_timeouts(monkeypatch: pytest.MonkeyPatch, *, open_ms: int, read_ms: int) -> None:
    before = network._PARAMETERS
    assert before[1] == 10_000 and before[3] == 5_000
    monkeypatch.setattr(network, "_PARAMETERS", (before[0], open_ms, before[2], read_ms, *before[4:]))
    monkeypatch.setattr(web, "TIMEOUT_S", open_ms / 1000)
