"""The outputs that the options of `fer-stream` ask for: files, the window, the live page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
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
# Options that provenance has elsewhere, or that change no result.
_UNNAMED_OPTIONS = ("source", "weights", "device", "quiet", "verbose", "overwrite", "serve")


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
        rather = "" if options.show else ", or --no-show for the terminal alone"
        raise OutputError(
            f"{reason}, and nothing else is asked for; add --save, --data or another output{rather}"
        )
    if options.show or not options.quiet:
        say(PROG, f"{reason}; going on without it")
    return None


def open_page(options: argparse.Namespace, info: SourceInfo, status: RunStatus, *, only: bool) -> Sink:
    """Return the live page and print its address.

    Args:
        options: The command's options.
        info: The source.
        status: How the run is doing.
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

    given = {
        name.replace("_", "-"): str(value)
        for name, value in vars(options).items()
        # 0 is a value: `0 in (None, False)` would be true.
        if value is not None and value is not False and name not in _UNNAMED_OPTIONS
    }
    return Provenance(
        source_name=info.name,
        source_path=info.path,
        weights_name=weights.name,
        weights_sha256=file_hash(weights),
        labels=analyzer.labels,
        unsure_below=analyzer.unsure_below,
        device=str(analyzer.device),
        options=given,
    )
