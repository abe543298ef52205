"""The tasks of a worker, as ordinary functions that need no Ray.

Problems with a recording are raised as the package's own errors, with a one-line message.
"""

from __future__ import annotations

import hashlib
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa
import pyarrow.parquet as pq

from fer_stream.analyzer import Analyzer
from fer_stream.batch.addresses import file_system, is_address
from fer_stream.batch.inputs import Recording, local_copy
from fer_stream.batch.manifest import DONE, Record, forget_record, keep_record, output_kind, same_analysis
from fer_stream.batch.output_folder import FOLDERS, Output
from fer_stream.batch.parts import WHOLE, Header, Part, PartResult, faces_by_frame, join
from fer_stream.batch.parts import read_header as read_file_header
from fer_stream.batch.settings import Settings
from fer_stream.batch.tables import CsvWriter, RowsSink, TableWriter, read_footer
from fer_stream.batch.watchdog import watched
from fer_stream.errors import NoFramesError, OutputError, SourceError, WeightsError, reason_of
from fer_stream.inference.threads import OPENCV_THREADS
from fer_stream.pipeline import RunOptions, Summary, run
from fer_stream.recognition.weights import BUILT_IN_WEIGHTS
from fer_stream.rendering.overlay import Overlay
from fer_stream.sinks import EpisodesSink, ReportSink, Sink, TimelineSink, VideoSink
from fer_stream.sinks.provenance import Provenance
from fer_stream.sinks.table import parquet_metadata
from fer_stream.sources import SourceInfo
from fer_stream.sources.video import VideoSource
from fer_stream.system.files import file_hash
from fer_stream.types import AnalyzedFrame, Frame
from fer_stream.version import __version__

_SAME_TIME_S = 1e-6  # the table's resolution

# The networks stay in the process. A worker serves one run, so only the GPU can differ between its tasks.
_loaded: tuple[Settings, Analyzer] | None = None


class WorkerStoppedError(Exception):
    """A signal ended the worker. Another worker can do the task, because the recording is not the cause."""


def load(settings: Settings, weights: bytes | None, output: Output | None = None) -> Analyzer:
    """Load the networks, unless this process has them already.

    Args:
        settings: Settings of the run.
        weights: The content of the weights file; None for the built-in weights.
        output: The folder of results, to check; None to skip the check.

    Raises:
        WeightsError: The weights can't be used, or this machine has another version of the package.
        OutputError: This machine does not see the output.
    """
    global _loaded
    if _loaded is None or _loaded[0] != settings:
        if output is not None:
            output.check()
        _check_package(settings, weights)
        cv2.setNumThreads(min(settings.threads, OPENCV_THREADS))
        with tempfile.TemporaryDirectory(prefix="fer-batch-") as folder:
            path = BUILT_IN_WEIGHTS
            if weights is not None:
                path = Path(folder) / "best-weights.pt"
                path.write_bytes(weights)
            analyzer = Analyzer(
                settings.device,
                path,
                labels=settings.labels,
                unsure_below=settings.unsure_below,
                min_face=settings.min_face,
                scan_every=settings.scan_every,
                smooth_s=settings.smooth_s,
                batch=settings.batch,
                threads=settings.threads,
                cautious=settings.blur,
            )
        _loaded = settings, analyzer
    return _loaded[1]


def _check_package(settings: Settings, weights: bytes | None) -> None:
    """Check that this machine analyzes like the driver's machine.

    Raises:
        WeightsError: It has another version or other weights.
    """
    if settings.version != __version__:
        raise WeightsError(
            f"{platform.node()} runs fer-stream {__version__}, but fer-batch was started with "
            f"{settings.version}; install the same version on every machine"
        )
    if weights is None and file_hash(BUILT_IN_WEIGHTS) != settings.weights_hash:
        raise WeightsError(
            f"the built-in weights on {platform.node()} differ from those where fer-batch was started; "
            "install the same fer-stream everywhere, or give --weights"
        )


def prepare(settings: Settings, weights: bytes | None, output: Output | None) -> None:
    """Load the networks in one worker first, so that an error shows only once."""
    load(settings, weights, output)


def read_header(_settings: Settings, recording: Recording) -> Header:
    """Read the header of a recording, and nothing else of a remote one.

    Raises:
        SourceError: An earlier worker got stuck with it.
    """
    with watched(recording):
        if not is_address(recording.address):
            return read_file_header(Path(recording.address))
        try:
            fs, path = file_system(recording.address)
            with fs.open(path, "rb") as file:
                return read_file_header(file)
        except Exception:  # every file system has errors of its own, and the analysis reports them
            return Header()


def analyze(settings: Settings, weights: bytes | None, recording: Recording, output: Output) -> Record:
    """Analyze a whole recording and write all requested outputs.

    Raises:
        SourceError: The recording can't be read.
        OutputError: An output can't be written.
    """
    began_s = time.monotonic()
    analyzer = load(settings, weights, output)
    with watched(recording) as progress, local_copy(recording) as path, ExitStack() as stack:
        source = stack.enter_context(_open(settings, path, recording))
        kept_bytes = _remove_outdated(settings, recording, output)
        # Opened first and so closed last: if the table exists, the other outputs do, too.
        writer = _table_writer(settings, recording, output, source.info.interval_s, stack)
        paths = _other_outputs(settings, recording, output, stack)
        sinks: list[Sink] = [RowsSink(writer, recording.name)]
        sinks += _sinks(settings, recording, output, source, paths)
        provenance = _provenance(settings, recording, path)
        summary = _run(source, analyzer, sinks, progress, provenance, blur=settings.blur)
        content_hash = provenance.source_sha256 or _hash(path, recording)
        record = _record(settings, recording, writer, began_s, content_hash, summary.problems)
        record = replace(record, output_bytes=kept_bytes | _sizes(settings, paths))
        writer.close(asdict(record))
    return keep_record(settings, record, output)


def analyze_part(
    settings: Settings, weights: bytes | None, recording: Recording, part: Part, output: Output
) -> PartResult:
    """Analyze a part of a recording into a table of its own, unless an earlier run has done so.

    Raises:
        SourceError: The recording can't be read.
        OutputError: The table can't be written.
    """
    began_s = time.monotonic()
    place = _part_place(settings, recording, part)
    if place[-1] in output.names(*place[:-1]):
        with output.reading(*place) as file:
            earlier = PartResult.of(read_footer(file))
        if earlier is not None:
            return earlier
    analyzer = load(settings, weights, output)
    with ExitStack() as stack:
        progress = stack.enter_context(watched(recording))
        path = stack.enter_context(local_copy(recording))
        table_path = stack.enter_context(output.writing(*place))
        problems: Sequence[str] = ()
        try:
            source = stack.enter_context(_open(settings, path, recording, part))
        except NoFramesError:
            if part.index == 0:
                raise
            source = None  # shorter than its header states
        interval_s = 1.0 if source is None else source.info.interval_s
        writer = TableWriter(table_path, interval_s, is_part=True)
        stack.callback(writer.close)
        if source is not None:
            sink = RowsSink(writer, recording.name)
            problems = _run(source, analyzer, [sink], progress).problems
        result = PartResult(
            interval_s=interval_s,
            hash=_hash(path, recording) if part.index == 0 else "",
            problems=tuple(problems),
            seconds=round(time.monotonic() - began_s, 3),
        )
        writer.close(asdict(result))
    return result


def join_parts(
    settings: Settings, recording: Recording, parts: list[Part], results: list[PartResult], output: Output
) -> Record:
    """Join the tables of a recording's parts, write the other outputs, and remove the parts.

    Raises:
        SourceError: The parts do not meet, or the recording can no longer be read.
        OutputError: An output can't be written.
    """
    began_s = time.monotonic() - sum(result.seconds for result in results)
    problems = list(dict.fromkeys(line for result in results for line in result.problems))

    def read(part: Part) -> Any:
        place = _part_place(settings, recording, part)
        try:
            with output.reading(*place) as file:
                return pq.read_table(file)
        except (OSError, pa.ArrowException) as error:
            raise OutputError(f"can't read {output.place(*place)}: {reason_of(error)}") from error

    with ExitStack() as stack:
        progress = stack.enter_context(watched(recording))
        kept_bytes = _remove_outdated(settings, recording, output)
        writer = _table_writer(settings, recording, output, results[0].interval_s, stack)

        def written() -> Iterator[Any]:
            for table in join(parts, read, recording.name):
                writer.add(table)
                progress()
                yield table

        paths = _other_outputs(settings, recording, output, stack)
        if paths:
            path = stack.enter_context(local_copy(recording))
            source = stack.enter_context(_open(settings, path, recording))
            sinks = list(_sinks(settings, recording, output, source, paths))
            provenance = _provenance(settings, recording, path)
            problems += _run(source, _Replay(written()), sinks, progress, provenance).problems
        else:
            for _ in written():
                pass
        record = _record(settings, recording, writer, began_s, results[0].hash, problems)
        record = replace(record, output_bytes=kept_bytes | _sizes(settings, paths))
        writer.close(asdict(record))
    record = keep_record(settings, record, output)
    output.remove("parts", recording.output_name)
    return record


def measure(
    settings: Settings, weights: bytes | None, recording: Recording, part: Part
) -> tuple[float, float]:
    """Analyze a part of a recording without keeping any output.

    Returns:
        Seconds of video, and seconds of work without loading the networks.
    """
    analyzer = load(settings, weights)
    with (
        tempfile.TemporaryDirectory(prefix="fer-batch-") as folder,
        local_copy(recording) as path,
        _open(settings, path, recording, part) as source,
    ):
        began_s = time.monotonic()
        sinks: list[Sink] = []
        if settings.save:
            sinks.append(VideoSink(Path(folder) / "clip.mp4", source.info))
        summary = _run(source, analyzer, sinks, lambda *_: None, blur=settings.blur)
        return summary.frames / float(source.info.frame_rate or 30), time.monotonic() - began_s


class _Replay:
    """Stands in for the analyzer: gives frames the faces of a joined table."""

    def __init__(self, tables: Iterable[Any]) -> None:
        self._known = faces_by_frame(tables)
        self.crop_scale = 1.0  # for crops, which fer-batch does not write

    def analyze_frames(self, frames: Iterable[Frame], _kind: str) -> Iterator[AnalyzedFrame]:
        """Yield the frames with their faces. They are matched by time, because damage may hide frames."""
        known = next(self._known, None)
        for frame in frames:
            while known is not None and known[0] < frame.time_s - _SAME_TIME_S:
                known = next(self._known, None)
            is_known = known is not None and known[0] <= frame.time_s + _SAME_TIME_S
            yield AnalyzedFrame(frame, known[1] if is_known and known is not None else ())
        for _ in self._known:  # reading the remaining rows writes them to the table
            pass


def _open(settings: Settings, path: Path, recording: Recording, part: Part = WHOLE) -> VideoSource:
    return VideoSource(
        path,
        name=recording.name,
        start_s=part.from_s,
        end_s=part.until_s,
        mirror=False,
        threads=settings.threads,
    )


def _other_outputs(
    settings: Settings, recording: Recording, output: Output, stack: ExitStack
) -> dict[str, Path]:
    """Return paths to write all requested outputs but the table to, by folder. See `Output.writing`."""
    return {
        folder: stack.enter_context(output.writing(folder, recording.output_name + settings.suffix(folder)))
        for folder in settings.folders
        if folder != "tables"
    }


def _sinks(
    settings: Settings, recording: Recording, output: Output, source: VideoSource, paths: dict[str, Path]
) -> Iterator[Sink]:
    """Yield the sinks for the paths of `_other_outputs`."""
    for folder, path in paths.items():
        name = recording.output_name + settings.suffix(folder)
        yield _sink(folder, path, output.final_path(folder, name), source.info, recording)


def _sizes(settings: Settings, paths: dict[str, Path]) -> dict[str, int]:
    """Return the sizes of finished outputs, for their record. A missing file is reported when it is moved."""
    return {
        output_kind(folder, settings.suffix(folder)): path.stat().st_size
        for folder, path in paths.items()
        if path.exists()
    }


def _remove_outdated(settings: Settings, recording: Recording, output: Output) -> dict[str, int]:
    """Remove the outputs of an earlier analysis, which would contradict the new table.

    Outputs of the same analysis agree with the table, so they stay, even if they are not requested now.

    Returns:
        The sizes of the outputs that stay, as in their record.
    """
    earlier = same_analysis(recording, settings, output)
    if earlier is not None:
        return earlier.output_bytes
    # Including table and record. If this run is killed now, they must not vouch for the new outputs.
    forget_record(recording.output_name, output)
    for folder, suffixes in FOLDERS.items():
        for suffix in suffixes:
            output.remove(folder, recording.output_name + suffix)
    return {}


def _sink(folder: str, path: Path, placed_at: Path, info: SourceInfo, recording: Recording) -> Sink:
    """Return the sink for one folder of the output. It writes to `path`, and the file is moved afterwards."""
    match folder:
        case "videos":
            video = VideoSink(path, info, overwrite=True)
            video.saved_video = placed_at
            return video
        case "charts":
            return TimelineSink(path, info, overwrite=True)
        case "reports":
            return ReportSink(path, info, overwrite=True, placed_at=placed_at)
        case "episodes":
            # The local copy of a remote recording is removed afterwards, so nothing may link to it.
            linkable_info = replace(info, path=None) if is_address(recording.address) else info
            return EpisodesSink(path, linkable_info, overwrite=True, placed_at=placed_at)
    raise LookupError(f"no sink for the folder {folder!r}")


def _table_writer(
    settings: Settings,
    recording: Recording,
    output: Output,
    interval_s: float,
    stack: ExitStack,
) -> TableWriter | CsvWriter:
    """Open the table of a recording. It appears in the output when `stack` is left."""
    name = recording.output_name + settings.suffix("tables")
    path = stack.enter_context(output.writing("tables", name))
    writer: TableWriter | CsvWriter
    if settings.table == "csv":
        writer = CsvWriter(path, interval_s)
    else:
        writer = TableWriter(path, interval_s, metadata=parquet_metadata(settings.provenance))
    stack.callback(writer.close)
    return writer


def _provenance(settings: Settings, recording: Recording, path: Path) -> Provenance:
    return replace(settings.provenance, source_name=recording.name, source_path=path)


def _run(
    source: VideoSource,
    analyzer: Any,
    sinks: list[Sink],
    progress: Callable[..., None],
    provenance: Provenance | None = None,
    *,
    blur: bool = False,
) -> Summary:
    options = RunOptions(on_frame=progress, provenance=provenance or Provenance(), blur=blur)
    summary = run(source, analyzer, Overlay(), sinks, options)
    if summary.interrupted:
        raise WorkerStoppedError
    return summary


def _record(
    settings: Settings,
    recording: Recording,
    writer: TableWriter | CsvWriter,
    began_s: float,
    content_hash: str,
    problems: list[str],
) -> Record:
    return Record(
        source=recording.name,
        stamp=recording.stamp,
        settings=settings.key,
        state=DONE,
        hash=content_hash,
        duration_s=writer.count.duration_s,
        frames=writer.count.frames,
        rows=writer.count.rows,
        faces=writer.count.faces,
        seconds=round(time.monotonic() - began_s, 3),
        error="; ".join(problems),
        table=f"tables/{recording.output_name}{settings.suffix('tables')}",
        output_name=recording.output_name,
        label_s={label: round(value, 6) for label, value in writer.count.label_s.items()},
        labels=settings.labels,
    )


def _part_place(settings: Settings, recording: Recording, part: Part) -> tuple[str, str, str]:
    """Return the path of a part's table. It differs for other settings, cuts or content."""
    shape = (settings.key, recording.stamp, part.from_s, part.start_s, part.end_s, part.until_s)
    return "parts", recording.output_name, hashlib.sha256(repr(shape).encode()).hexdigest()[:16] + ".parquet"


def _hash(path: Path, recording: Recording) -> str:
    try:
        return file_hash(path)
    except OSError as error:
        raise SourceError(f"{recording.name} can't be read: {reason_of(error)}") from error
