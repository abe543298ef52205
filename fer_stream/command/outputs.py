"""The outputs that the options of `fer-stream` ask for: files, the window, the live page."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fer_stream.command.reporting import say
from fer_stream.errors import OutputError, UsageError
from fer_stream.system.files import file_identities, new_folders_removed

if TYPE_CHECKING:
    from fer_stream.analyzer import Analyzer
    from fer_stream.sinks import Sink, WindowSink
    from fer_stream.sinks.provenance import Provenance
    from fer_stream.sources import SourceInfo
    from fer_stream.status import RunStatus

PROG = "fer-stream"
# Options that provenance stores in other fields, or that change no result.
_OMITTED_OPTIONS = ("source", "weights", "device", "quiet", "verbose", "overwrite", "serve")


@dataclass(frozen=True)
class OutputOption:
    """An option that asks for an output and names its path.

    Attributes:
        name: The option, without its dashes.
        help: Its text for `--help`.
        open: Makes the sink from the command's options and the source. It imports the sink only then, because
            options are checked before OpenCV and the rest load.
        is_folder: Whether the path names a folder.
    """

    name: str
    help: str
    open: Callable[[argparse.Namespace, SourceInfo], Sink]
    is_folder: bool = False


def _open_save(options: argparse.Namespace, info: SourceInfo) -> Sink:
    from fer_stream.sinks import ImageSink, VideoSink
    from fer_stream.sources import SourceKind

    if info.kind == SourceKind.IMAGES:
        return ImageSink(options.save, info, overwrite=options.overwrite)
    return VideoSink(options.save, info, overwrite=options.overwrite)


def _open_data(options: argparse.Namespace, info: SourceInfo) -> Sink:
    from fer_stream.sinks import TableSink

    return TableSink(options.data, info, overwrite=options.overwrite)


def _open_episodes(options: argparse.Namespace, info: SourceInfo) -> Sink:
    from fer_stream.sinks import EpisodesSink

    return EpisodesSink(options.episodes, info, overwrite=options.overwrite)


def _open_chart(options: argparse.Namespace, info: SourceInfo) -> Sink:
    from fer_stream.sinks import FaceChartSink, TimelineSink
    from fer_stream.sources import SourceKind

    if info.kind == SourceKind.IMAGES:
        return FaceChartSink(options.chart, info, overwrite=options.overwrite)
    return TimelineSink(options.chart, info, overwrite=options.overwrite)


def _open_report(options: argparse.Namespace, info: SourceInfo) -> Sink:
    from fer_stream.sinks import ReportSink

    return ReportSink(options.report, info, overwrite=options.overwrite)


def _open_crops(options: argparse.Namespace, _: SourceInfo) -> Sink:
    from fer_stream.sinks import CropsSink

    return CropsSink(options.crops, overwrite=options.overwrite)


def _open_stills(options: argparse.Namespace, info: SourceInfo) -> Sink:
    from fer_stream.sinks import StillsSink
    from fer_stream.sources import SourceKind

    if info.kind == SourceKind.IMAGES:
        raise UsageError("--stills takes stills of a video; save pictures with --save")
    return StillsSink(
        options.stills,
        every_s=options.stills_every,
        on_change=options.stills_every is None,
        overwrite=options.overwrite,
    )


# A new sink is registered here. Everything else about its option follows from its entry.
OUTPUT_OPTIONS = (
    OutputOption(
        "save", "annotated video (.mp4, .mkv, .webm); for pictures, a picture or a folder", _open_save
    ),
    OutputOption(
        "data",
        "table, one row per face per frame (.csv, .jsonl, .parquet); - writes JSON lines to standard output",
        _open_data,
    ),
    OutputOption(
        "episodes",
        "stretches of one expression: as a table (.csv), as subtitles (.vtt) or for ELAN (.eaf)",
        _open_episodes,
    ),
    OutputOption(
        "chart",
        "timeline of a video, or a picture beside its bar chart (.png, .jpg, .svg, .pdf)",
        _open_chart,
    ),
    OutputOption("report", "report on a recording: one .html file that opens in any browser", _open_report),
    OutputOption("crops", "folder for the cut-out faces, <face_id>/<frame>.jpg", _open_crops, is_folder=True),
    OutputOption(
        "stills",
        "folder for annotated stills of a video, and for what you save in the live window or page",
        _open_stills,
        is_folder=True,
    ),
)
_FILE_OUTPUTS = (*(option.name for option in OUTPUT_OPTIONS if not option.is_folder), "profile")
_FOLDER_OUTPUTS = tuple(option.name for option in OUTPUT_OPTIONS if option.is_folder)


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
                raise UsageError(f"{other} names a place inside that of {option}; choose another name")


def refuse_inputs(options: argparse.Namespace, info: SourceInfo, weights: Path) -> None:
    """Refuse to overwrite an input, even one picture of many, and even through a link."""
    from fer_stream.sinks.crops import CROPS_PATTERN
    from fer_stream.sources.images import images_of_source

    images = file_identities(images_of_source(info))
    inputs = images | file_identities([weights])
    for path in _output_paths(options, _FILE_OUTPUTS).values():
        if file_identities([path]) & inputs:
            raise OutputError(f"{path} is an input itself; choose another name for the output")
    if options.crops is not None:
        # Look at the crops, not at the inputs: any folder or file in between may be a link.
        for path in Path(options.crops).glob(CROPS_PATTERN):
            if file_identities([path]) & images:
                raise OutputError(f"{path} is an input itself; choose another folder for --crops")


def empty_folders_removed(options: argparse.Namespace) -> AbstractContextManager[Callable[[], None]]:
    """Remove folders that were made for outputs and stayed empty; see `new_folders_removed`."""
    return new_folders_removed(_output_paths(options, (*_FILE_OUTPUTS, *_FOLDER_OUTPUTS)).values())


def open_sinks(options: argparse.Namespace, info: SourceInfo) -> Iterator[Sink]:
    """Yield the sinks that the options ask for, each checked when it is made."""
    for option in OUTPUT_OPTIONS:
        if getattr(options, option.name) is not None:
            yield option.open(options, info)
    if options.virtual_camera:
        from fer_stream.sinks import VirtualCameraSink

        yield VirtualCameraSink(info)


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


def nothing_saved(info: SourceInfo) -> str:
    """Return a hint for a run without an output: options that keep the result of this kind of source."""
    from fer_stream.sources import SourceKind

    saved = "annotated.mp4"
    if info.kind == SourceKind.IMAGES:
        saved = "annotated.jpg" if info.path is not None and info.path.is_file() else "annotated/"
    return f"nothing was saved; to keep the result, add --save {saved} or --data table.csv"


def open_page(options: argparse.Namespace, info: SourceInfo, status: RunStatus, *, only: bool) -> Sink:
    """Return the live page and print its address.

    Args:
        options: The command's options.
        info: The source.
        status: State of the run.
        only: Whether the page is the only output; a recording then plays in real time.
    """
    from fer_stream.web.addresses import parse_host_and_port
    from fer_stream.web.page import PageSink

    host, port = parse_host_and_port(options.serve)
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
