"""A new sink takes its class and an entry in the list of output options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from helpers.paths import SAMPLE

from fer_stream.command import cli, outputs
from fer_stream.sinks import Sink, check_output
from fer_stream.types import AnalyzedFrame


class CountSink(Sink):
    """Writes the number of frames into a file."""

    name = "count"

    def __init__(self, path: str, *, overwrite: bool) -> None:
        super().__init__()
        self._path = check_output(path, overwrite=overwrite, source_path=None)
        self._frames = 0

    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None) -> None:
        self._frames += 1

    def close(self) -> None:
        if self._frames:
            self._path.write_text(str(self._frames))

    def outputs(self) -> list[Path]:
        return [self._path] if self._frames else []


def test_a_registered_sink_has_its_option(fer, loaded, monkeypatch) -> None:
    registered = (
        *outputs.OUTPUT_OPTIONS,
        outputs.OutputOption(
            "count",
            "the number of frames",
            lambda options, _: CountSink(options.count, overwrite=options.overwrite),
        ),
    )
    for module in (cli, outputs):
        monkeypatch.setattr(module, "OUTPUT_OPTIONS", registered)
    said = fer(SAMPLE, "--end", "0.5", "--count", "frames.txt")
    assert said.code == 0
    assert Path("frames.txt").read_text() == "15" and "frames.txt" in said.err
