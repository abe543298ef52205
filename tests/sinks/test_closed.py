"""A sink that is closed takes no more frames, and a file that fails when it is closed is an output error."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from helpers.contexts import make_info
from helpers.recordings import analyzed
from helpers.videos import numbered

from fer_stream.errors import OutputError
from fer_stream.sinks import EpisodesSink, ReportSink, Sink, TableSink, TimelineSink, VideoSink, table, video
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


@pytest.mark.parametrize(
    ("make", "module", "name"),
    [(TableSink, table, "table.csv"), (TableSink, table, "table.parquet"), (VideoSink, video, "video.mp4")],
)
def test_a_write_that_fails_when_the_file_is_closed_names_the_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path, SourceInfo], Sink],
    module: ModuleType,
    name: str,
) -> None:
    class OverQuota(io.FileIO):
        """A file on a server that accepts every write, but has no room left when the file is closed."""

        def close(self) -> None:
            was_closed = self.closed
            super().close()
            if not was_closed:
                raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(module, "open_new", lambda path, overwrite: OverQuota(path, "xb"))
    sink = make(tmp_path / name, make_info())
    sink.write(analyzed(numbered(0), 0, 0.0), numbered(0))
    with pytest.raises(OutputError, match=rf"can't write .*{name}.*: Disk quota exceeded"):
        sink.close()
    sink.close()
