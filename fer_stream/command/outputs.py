"""The outputs that the options of `fer-stream` ask for: files, the window, the live page."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fer_stream.command.options import say
from fer_stream.errors import OutputError, UsageError

if TYPE_CHECKING:
    from fer_stream.analyzer import Analyzer
    from fer_stream.sinks import Sink, WindowSink
    from fer_stream.sinks.provenance import Provenance
    from fer_stream.sources import SourceInfo
    from fer_stream.status import RunStatus

PROG = "fer-stream"
_FILE_OUTPUTS = ("save", "data", "episodes", "chart", "report", "profile")
_FOLDER_OUTPUTS = ("stills", "crops")
# Options that provenance stores in other fields, or that change no result.
_OMITTED_OPTIONS = ("source", "weights", "device", "quiet", "verbose", "overwrite", "serve")


def _output_paths(options: argparse.Namespace, names: Sequence[str]) -> dict[str, Path]:
    """Return the given paths by option, without standard output."""
    paths = {name: getattr(options, name) for name in names}
    return {
        f"--{name}": Path(path)
        for name, path in paths.items()
        if path is not None and (name, path) != ("data", "-")
    }


def check_outputs_differ(options: argparse.Namespace) -> None:
    """Refuse outputs that conflict with each other. Stills and crops may share a folder."""
    for name in (*_FILE_OUTPUTS, *_FOLDER_OUTPUTS):
        if getattr(options, name) == "":
            raise UsageError(f"--{name} has an empty name; give it a path")

    def real(paths: dict[str, Path]) -> dict[str, Path]:
        # Follow links, and ignore upper and lower case if the system does.
        return {option: Path(os.path.normcase(os.path.realpath(path))) for option, path in paths.items()}

    files = real(_output_paths(options, _FILE_OUTPUTS))
    everything = files | real(_output_paths(options, _FOLDER_OUTPUTS))
    for option, path in files.items():
        for other, other_path in everything.items():
            if other != option and path == other_path:
                raise UsageError(f"{option} and {other} name the same path; give each its own")
            if path in other_path.parents:
                raise UsageError(f"{option} names a file and {other} a place inside it; choose another name")


def refuse_inputs(options: argparse.Namespace, info: SourceInfo, weights: Path) -> None:
    """Refuse to overwrite an input, even one picture of many, and even through a link."""
    from fer_stream.sources.images import images_of_source

    for path in _output_paths(options, _FILE_OUTPUTS).values():
        with suppress(OSError):  # a missing file is not an input
            if path.is_file() and any(path.samefile(other) for other in (*images_of_source(info), weights)):
                raise OutputError(f"{path} is an input itself; choose another name for the output")


@contextmanager
def empty_folders_removed(options: argparse.Namespace) -> Iterator[set[Path]]:
    """Remove folders that were made for outputs and stayed empty.

    Yields:
        The folders to remove. Clear the set after success.
    """
    paths = _output_paths(options, (*_FILE_OUTPUTS, *_FOLDER_OUTPUTS)).values()
    missing = {folder for path in paths for folder in (path, *path.parents) if not os.path.lexists(folder)}
    try:
        yield missing
    finally:
        for folder in sorted(missing, key=lambda folder: -len(folder.parts)):
            with suppress(OSError):  # it was not made, is a file, or is not empty
                folder.rmdir()


def open_sinks(options: argparse.Namespace, info: SourceInfo) -> Iterator[Sink]:
    """Yield the sinks that the options ask for, each checked when it is made."""
    from fer_stream import sinks
    from fer_stream.sources import SourceKind

    overwrite, images = options.overwrite, info.kind == SourceKind.IMAGES
    if options.save is not None:
        yield (sinks.ImageSink if images else sinks.VideoSink)(options.save, info, overwrite=overwrite)
    if options.stills is not None:
        if images:
            raise UsageError("--stills takes stills of a video; save pictures with --save")
        yield sinks.StillsSink(
            options.stills,
            every_s=options.stills_every,
            on_change=options.stills_every is None,
            overwrite=overwrite,
        )
    if options.crops is not None:
        yield sinks.CropsSink(options.crops, overwrite=overwrite)
    if options.data is not None:
        yield sinks.TableSink(options.data, info, overwrite=overwrite)
    if options.episodes is not None:
        yield sinks.EpisodesSink(options.episodes, info, overwrite=overwrite)
    if options.chart is not None:
        yield (sinks.FaceChartSink if images else sinks.TimelineSink)(
            options.chart, info, overwrite=overwrite
        )
    if options.report is not None:
        yield sinks.ReportSink(options.report, info, overwrite=overwrite)
    if options.virtual_camera:
        yield sinks.VirtualCameraSink(info)


def open_window(
    options: argparse.Namespace, info: SourceInfo, status: RunStatus, *, has_outputs: bool
) -> WindowSink | None:
    """Return the window, or None if it is not wanted or can't be made, which is reported in one line."""
    from fer_stream.sinks import WindowSink, why_no_window

    if not (options.show or (options.show is None and info.is_live)):
        return None
    reason = why_no_window()
    if reason is None:
        return WindowSink(info, status=status, folder=options.stills or ".")
    if not has_outputs:
        alternative = "" if options.show else ", or --no-show for the terminal alone"
        raise OutputError(
            f"{reason}, and nothing else is asked for; add --save, --data or another output{alternative}"
        )
    if options.show or not options.quiet:
        say(PROG, f"{reason}; going on without it")
    return None


def open_page(options: argparse.Namespace, info: SourceInfo, status: RunStatus, *, only: bool) -> Sink:
    """Return the live page and print its address.

    Args:
        options: The command's options.
        info: The source.
        status: State of the run.
        only: Whether the page is the only output; a recording then plays in real time.
    """
    from fer_stream.web.page import PageSink

    host, port = options.serve
    page = PageSink(info, host, port, status=status, folder=options.stills or ".", real_time=only)
    # Not with `say`, which hides possible secrets in addresses.
    if sys.stderr is not None:  # if it is closed, print would write the token to standard output
        print(f"{PROG}: live page at {page.address}", file=sys.stderr, flush=True)
    return page


def provenance_of(
    options: argparse.Namespace, info: SourceInfo, weights: Path, analyzer: Analyzer
) -> Provenance:
    """Return the provenance of this run's results, for outputs that store it."""
    from fer_stream.sinks.provenance import Provenance
    from fer_stream.system.files import file_hash

    recorded = {
        name.replace("_", "-"): str(value)
        for name, value in vars(options).items()
        # 0 is a value: `0 in (None, False)` would be true.
        if value is not None and value is not False and name not in _OMITTED_OPTIONS
    }
    return Provenance(
        source_name=info.name,
        source_path=info.path,
        weights_name=weights.name,
        weights_sha256=file_hash(weights),
        labels=analyzer.labels,
        unsure_below=analyzer.unsure_below,
        device=str(analyzer.device),
        options=recorded,
    )
