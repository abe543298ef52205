"""A sink that is closed takes no more frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.contexts import make_info
from helpers.recordings import analyzed
from helpers.videos import numbered

from fer_stream.errors import OutputError
from fer_stream.sinks import EpisodesSink, ReportSink, Sink, TableSink, TimelineSink, VideoSink
from fer_stream.sources import SourceInfo


@pytest.mark.parametrize("frames", [0, 1])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (TableSink, "table.csv"),
        (TableSink, "table.jsonl"),
        (EpisodesSink, "episodes.csv"),
        (TimelineSink, "timeline.png"),
        (ReportSink, "report.html"),
        (VideoSink, "video.mp4"),
    ],
)
def test_a_closed_sink_refuses_frames(
    tmp_path: Path, make: Callable[[Path, SourceInfo], Sink], name: str, frames: int
) -> None:
    sink = make(tmp_path / name, make_info())
    for index in range(frames):
        sink.write(analyzed(numbered(index), index, index / 25), numbered(index))
    sink.close()
    written = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OutputError, match=rf"{name}: it is closed; make a new sink for each run"):
        sink.write(analyzed(numbered(5), 5, 0.2), numbered(5))
    sink.close()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == written
    assert len(written) == frames == len(sink.outputs())
