"""Run `fer-stream` once: open everything, run the pipeline, and sum up.

The command imports this module after its options are checked, because OpenCV, PyAV and the rest load with it.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import cv2

from fer_stream.analyzer import Analyzer
from fer_stream.command.logs import LOGGER
from fer_stream.command.options import analysis_settings
from fer_stream.command.outputs import (
    PROG,
    empty_folders_removed,
    nothing_saved,
    open_page,
    open_sinks,
    open_window,
    provenance_of,
    refuse_inputs,
)
from fer_stream.command.progress import Progress
from fer_stream.command.reporting import BLUR_REMINDER, say
from fer_stream.errors import INTERRUPTED_EXIT_CODE
from fer_stream.inference.threads import OPENCV_THREADS
from fer_stream.pipeline import RunOptions, Summary, profile_report, run, written_files
from fer_stream.profiling import Profile
from fer_stream.recognition.weights import BUILT_IN_WEIGHTS, check_weights_file
from fer_stream.rendering.overlay import Overlay
from fer_stream.sinks import check_output
from fer_stream.sources import Source, SourceInfo, open_source
from fer_stream.sources.time_text import parse_time
from fer_stream.status import RunStatus
from fer_stream.system.background import Task
from fer_stream.system.files import write_json
from fer_stream.system.interrupts import interrupts_raised


def analyze(options: argparse.Namespace, started_s: float) -> int:
    """Analyze the source that the options name, and return the exit code.

    Args:
        options: The command's options, checked.
        started_s: `time.monotonic()` when the command started.
    """
    cv2.setNumThreads(OPENCV_THREADS)
    profile, status = Profile(), RunStatus()
    with interrupts_raised(), ExitStack() as stack:
        source = stack.enter_context(_open_source(options))
        LOGGER.debug("source: %s", source.info)
        weights = Path(options.weights) if options.weights is not None else BUILT_IN_WEIGHTS
        refuse_inputs(options, source.info, weights)
        keep_folders = stack.enter_context(empty_folders_removed(options))
        sinks = [stack.enter_context(sink) for sink in open_sinks(options, source.info)]
        profile_path = _profile_path(options, source.info)
        check_weights_file(weights, options.labels)
        # The window opens after everything that can fail, and before everything that takes long.
        has_outputs = bool(sinks or profile_path or options.serve)
        window = open_window(options, source.info, status, has_outputs=has_outputs)
        if window is not None:
            sinks.append(stack.enter_context(window))
        if options.serve is not None:  # last, so that it is closed when the files are finished
            page = open_page(options, source.info, status, only=not (sinks or profile_path))
            sinks.append(stack.enter_context(page))
        progress = stack.enter_context(
            Progress(
                source.info,
                status,
                quiet=options.quiet,
                plain=options.data == "-" and sys.stdout is not None and sys.stdout.isatty(),
                hint="Ctrl-C ends it" if window is None else "q in the window or Ctrl-C ends it",
            )
        )
        analyzer = _load_analyzer(options, weights, profile)
        status.device = str(analyzer.device)
        loading_s = time.monotonic() - started_s
        summary = run(
            source,
            analyzer,
            Overlay(),
            sinks,
            RunOptions(
                blur=options.blur,
                provenance=provenance_of(options, source.info, weights, analyzer),
                profile=profile,
                status=status,
                on_frame=lambda analyzed, _: progress.update(analyzed),
                on_idle=progress.update,
            ),
        )
        files = written_files(sinks)
        if profile_path is not None:
            write_json(profile_path, profile_report(summary, profile, loading_s, str(analyzer.device)))
            files.append(profile_path)
        _sum_up(options, summary, profile, progress, files)
        if not (sinks or profile_path or options.quiet):
            say(PROG, nothing_saved(source.info))
        if not summary.interrupted:
            keep_folders()
    return INTERRUPTED_EXIT_CODE if summary.interrupted else 0


def _open_source(options: argparse.Namespace) -> Source:
    return open_source(
        options.source if options.camera is None else options.camera,
        start_s=0.0 if options.start is None else parse_time(options.start),
        end_s=None if options.end is None else parse_time(options.end),
        mirror=options.mirror,
        camera_size_wh=options.camera_size,
        camera_frame_rate=options.camera_fps,
    )


def _profile_path(options: argparse.Namespace, info: SourceInfo) -> Path | None:
    if options.profile is None:
        return None
    return check_output(options.profile, overwrite=options.overwrite, source_path=info.path)


def _load_analyzer(options: argparse.Namespace, weights: Path, profile: Profile) -> Analyzer:
    settings = analysis_settings(options)
    if options.blur:
        # Also hide faces that are found in only one frame, or only weakly.
        settings |= {"scan_every": 1, "cautious": True}
    # Load it in another thread, because it may import torch, and an interrupt must not wait for that.
    analyzer = Task(lambda: Analyzer(options.device, weights, profile=profile, **settings)).result()
    LOGGER.debug("networks loaded on %s, with %s", analyzer.device, weights)
    return analyzer


def _sum_up(
    options: argparse.Namespace, summary: Summary, profile: Profile, progress: Progress, files: list[Path]
) -> None:
    progress.update()
    progress.summarize(summary, files)
    if LOGGER.isEnabledFor(logging.DEBUG):  # percentiles load more of NumPy
        LOGGER.debug("stages in ms: %s", profile.stages_ms())
    if options.blur and files and not options.quiet:
        say(PROG, BLUR_REMINDER)
