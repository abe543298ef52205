"""The `fer-stream` command: turn options into objects, and errors into one line and an exit code.

Options, source, output paths and the weights file are checked in this order before any network loads. A
failure there leaves nothing behind. Messages go to standard error, so that `--data -` has standard output for
itself.
"""

from __future__ import annotations

import time

STARTED_S = time.monotonic()  # before the imports, because the user waits for them, too

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import platform  # noqa: E402
import sys  # noqa: E402
from collections.abc import Iterator, Sequence  # noqa: E402
from contextlib import ExitStack, contextmanager, suppress  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

from fer_stream.command.logs import LOGGER, log_to_standard_error  # noqa: E402
from fer_stream.command.native import native_messages  # noqa: E402
from fer_stream.command.options import (  # noqa: E402
    LOOK_THROUGH,
    CommandParser,
    add_analysis_options,
    analysis_settings,
    exit_code_of,
    number,
    say,
    size_wh,
    whole,
)
from fer_stream.command.outputs import PROG, open_page, open_sinks, open_window, provenance_of  # noqa: E402
from fer_stream.errors import (  # noqa: E402
    INTERRUPTED_EXIT_CODE,
    OutputError,
    UsageError,
    cannot_write,
    one_line,
)
from fer_stream.system.files import replacing, to_standard_output  # noqa: E402
from fer_stream.system.interrupts import interrupts_raised  # noqa: E402
from fer_stream.version import __version__  # noqa: E402

if TYPE_CHECKING:
    from fer_stream.sources import SourceInfo


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    parser = CommandParser(
        prog=PROG,
        description="Find every face in a video, a camera, pictures or a stream, and read its expression.",
        epilog="Exit codes: 0 done, 1 not enough memory, 2 wrong usage, 3 source, 4 output, 5 weights, "
        "130 interrupted.",
    )
    parser.add_argument(
        "source", nargs="?", help="video file, image, folder or glob of images, or http or rtsp address"
    )
    parser.add_argument("--camera", type=whole(0), metavar="N", help="read camera N; the first is 0")
    parser.add_argument(
        "--camera-size", type=size_wh, metavar="WxH", help="ask the camera for this size, such as 1280x720"
    )
    parser.add_argument(
        "--camera-fps",
        type=number(lambda value: 0 < value <= 1000, "a number of frames a second"),
        metavar="N",
        help="ask the camera for this many frames a second",
    )
    parser.add_argument(
        "--list-cameras", action="store_true", help="list the cameras of this machine and exit"
    )

    outputs = parser.add_argument_group("outputs")
    outputs.add_argument(
        "--save", metavar="PATH", help="annotated video (.mp4, .mkv, .webm), or annotated image or folder"
    )
    outputs.add_argument(
        "--stills", metavar="DIR", help="annotated stills of a video; also the folder for the window's keys"
    )
    when = outputs.add_mutually_exclusive_group()
    when.add_argument(
        "--stills-every",
        type=number(lambda value: value > 0, "a number of seconds, more than 0"),
        metavar="SECONDS",
        help="save a still every SECONDS",
    )
    when.add_argument(
        "--stills-on",
        choices=["change"],
        help="save a still when a face appears or changes its expression for 0.3 s (the default)",
    )
    outputs.add_argument("--crops", metavar="DIR", help="face crops, as <face_id>/<frame>.jpg")
    outputs.add_argument(
        "--data",
        metavar="PATH",
        help="table (.csv, .jsonl, .parquet); - writes JSON lines to standard output",
    )
    outputs.add_argument(
        "--episodes",
        metavar="PATH",
        help="stretches of one expression on one face: .csv, .vtt (subtitles) or .eaf (ELAN)",
    )
    outputs.add_argument(
        "--chart",
        metavar="PATH",
        help="timeline of a video, or an image beside its bar chart (.png, .jpg, .svg, .pdf)",
    )
    outputs.add_argument(
        "--report", metavar="PATH", help="report on a recording, one .html file that opens in any browser"
    )
    outputs.add_argument(
        "--show",
        action=argparse.BooleanOptionalAction,
        help="live window (default: for live sources, if there is a display)",
    )
    outputs.add_argument(
        "--serve",
        metavar="[HOST:]PORT",
        help="live page for a browser, on this machine only unless HOST says otherwise; port 0 picks a "
        "free one (needs fer-stream[web])",
    )
    outputs.add_argument(
        "--virtual-camera",
        action="store_true",
        help="send the annotated picture to meeting software (needs fer-stream[virtual-camera])",
    )
    outputs.add_argument(
        "--blur",
        action="store_true",
        help="hide every face that is found, in everything shown or written; searches every frame",
    )
    outputs.add_argument("--overwrite", action="store_true", help="replace existing outputs")
    outputs.add_argument(
        "--profile", metavar="PATH", help="write the time of each stage and other figures as JSON"
    )

    part = parser.add_argument_group("part of a recording, in seconds or [HH:]MM:SS[.mmm]")
    part.add_argument("--start", metavar="T", help="start at this time")
    part.add_argument("--end", metavar="T", help="stop at this time (exclusive)")

    analysis = add_analysis_options(parser)
    analysis.add_argument("--mirror", action="store_true", help="mirror every frame")

    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument(
        "--verbose", action="store_true", help="log each step to standard error, and errors with tracebacks"
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""

    def run() -> int:
        options = _parsed(argv)
        with native_messages(shown=options.verbose):
            log_to_standard_error(PROG, verbose=options.verbose)
            LOGGER.debug("%s %s, Python %s, %s", PROG, __version__, platform.python_version(), sys.platform)
            return _run(options)

    return exit_code_of(PROG, run)


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments. Several sources are an error that names fer-batch."""
    parser = build_parser()
    options, rest = parser.parse_known_args(argv)
    if rest and options.source is not None and not any(argument.startswith("-") for argument in rest):
        raise UsageError(
            f"{PROG} reads one source, and {1 + len(rest)} are given ({rest[0]!r} is the second); "
            "fer-batch analyzes many recordings"
        )
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def _run(options: argparse.Namespace) -> int:
    """Open everything, run the pipeline, and print the summary."""
    if options.list_cameras:
        if options.source is not None or options.camera is not None:
            raise UsageError("--list-cameras takes no source; leave one of them out")
        _list_cameras()
        return 0
    spec, start_s, end_s = _check(options)
    # Imported only now, because wrong options should be found before OpenCV, PyAV and the rest load.
    from fer_stream.analyzer import Analyzer
    from fer_stream.command.progress import Progress
    from fer_stream.pipeline import RunOptions, profile_report, run, written_files
    from fer_stream.profiling import Profile
    from fer_stream.recognition.weights import BUILT_IN_WEIGHTS, check_weights_file
    from fer_stream.rendering.overlay import Overlay
    from fer_stream.sinks import check_output
    from fer_stream.sources import open_source
    from fer_stream.status import RunStatus
    from fer_stream.system.background import Task

    with interrupts_raised(), ExitStack() as stack:
        source = stack.enter_context(
            open_source(
                spec,
                start_s=start_s,
                end_s=end_s,
                mirror=options.mirror,
                camera_size_wh=options.camera_size,
                camera_frame_rate=options.camera_fps,
            )
        )
        LOGGER.debug("source: %s", source.info)
        weights = Path(options.weights) if options.weights is not None else BUILT_IN_WEIGHTS
        _refuse_inputs(options, source.info, weights)
        made_folders = stack.enter_context(_empty_folders_removed(options))
        sinks = [stack.enter_context(sink) for sink in open_sinks(options, source.info)]
        profile_path = None
        if options.profile is not None:
            profile_path = check_output(
                options.profile, overwrite=options.overwrite, source_path=source.info.path
            )
        check_weights_file(weights, options.labels)
        status = RunStatus()
        # The window opens after everything that can fail, and before everything that takes long.
        window = open_window(
            options, source.info, status, has_outputs=bool(sinks or profile_path or options.serve)
        )
        if window is not None:
            sinks.append(stack.enter_context(window))
        if options.serve is not None:  # last, so that it is closed when the files are finished
            sinks.append(
                stack.enter_context(open_page(options, source.info, status, only=not (sinks or profile_path)))
            )

        progress = stack.enter_context(
            Progress(
                source.info,
                status,
                quiet=options.quiet,
                plain=options.data == "-" and sys.stdout is not None and sys.stdout.isatty(),
                hint="Ctrl-C ends it" if window is None else "q in the window or Ctrl-C ends it",
            )
        )
        profile = Profile()
        given = analysis_settings(options)
        if options.blur:
            # A face that is found in one frame only, or hardly, is to be hidden too.
            given |= {"scan_every": 1, "cautious": True}
        # In a thread of its own, because an interrupt can't wait for the import of torch that it may take.
        analyzer = Task(lambda: Analyzer(options.device, weights, profile=profile, **given)).result()
        LOGGER.debug("networks loaded on %s, with %s", analyzer.device, weights)
        status.device = str(analyzer.device)
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
            _write_json(profile_path, profile_report(summary, profile, STARTED_S))
            files.append(profile_path)
        progress.update()
        progress.summarize(summary, files)
        LOGGER.debug("stages in ms: %s", profile.stages_ms())
        if options.blur and files and not options.quiet:
            say(PROG, LOOK_THROUGH)
        if not summary.interrupted:
            made_folders.clear()
    return INTERRUPTED_EXIT_CODE if summary.interrupted else 0


def _list_cameras() -> None:
    """List the cameras on standard output, or say that no camera was found."""
    from fer_stream.sources.cameras import list_cameras

    cameras = list_cameras()
    width = max((len(camera.name) for camera in cameras), default=0)
    lines = [f"{each.index}  {one_line(each.name):<{width}}  {each.note}".rstrip() for each in cameras]
    none = "no camera was found; connect one, or see that this program may use it"
    to_standard_output("".join(f"{line}\n" for line in lines or [none]).encode())


def _check(options: argparse.Namespace) -> tuple[str | int, float, float | None]:
    """Check the options by themselves. Return the source, the start and the end."""
    from fer_stream.inference.devices import pick_device
    from fer_stream.sources.times import parse_time
    from fer_stream.system.extras import require_extra

    if options.source is None and options.camera is None:
        raise UsageError("a source or --camera N is needed; see fer-stream --help")
    if options.source is not None and options.camera is not None:
        raise UsageError("a source and --camera are given; leave one of them out")
    if options.camera is None and (options.camera_size or options.camera_fps):
        raise UsageError("--camera-size and --camera-fps go with --camera N")
    if options.stills is None and (options.stills_every or options.stills_on):
        raise UsageError("--stills-every and --stills-on go with --stills DIR")
    if options.crops is not None and options.blur:
        raise UsageError("--crops saves the faces that --blur hides; leave one of them out")
    if options.blur and options.scan_every not in (None, "auto", 1):
        raise UsageError("--blur searches every frame, so that nobody is seen before; leave --scan-every out")
    _check_outputs_differ(options)
    if options.serve is not None:
        from fer_stream.web.addresses import parse_host_and_port

        require_extra("web", "--serve")
        options.serve = parse_host_and_port(options.serve)
    if options.virtual_camera:
        require_extra("virtual-camera", "--virtual-camera")
    if options.data is not None and Path(options.data).suffix.lower() == ".parquet":
        require_extra("parquet", f"--data {options.data}")
    if options.device != "auto":  # auto always works, and finding a GPU may take long
        pick_device(options.device)
    return (
        options.source if options.camera is None else options.camera,
        0.0 if options.start is None else parse_time(options.start),
        None if options.end is None else parse_time(options.end),
    )


_FILE_OUTPUTS = ("save", "data", "episodes", "chart", "report", "profile")
_FOLDER_OUTPUTS = ("stills", "crops")


def _output_paths(options: argparse.Namespace, names: Sequence[str]) -> dict[str, Path]:
    """Return the given paths by option, without standard output."""
    given = {name: getattr(options, name) for name in names}
    return {
        f"--{name}": Path(path)
        for name, path in given.items()
        if path is not None and (name, path) != ("data", "-")
    }


def _check_outputs_differ(options: argparse.Namespace) -> None:
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


def _refuse_inputs(options: argparse.Namespace, info: SourceInfo, weights: Path) -> None:
    """Refuse to overwrite an input, even one picture of many, and even through a link."""
    from fer_stream.sources.images import images_of_source

    for path in _output_paths(options, _FILE_OUTPUTS).values():
        with suppress(OSError):  # a missing file is no input
            if path.is_file() and any(path.samefile(other) for other in (*images_of_source(info), weights)):
                raise OutputError(f"{path} is an input itself; choose another name for the output")


@contextmanager
def _empty_folders_removed(options: argparse.Namespace) -> Iterator[set[Path]]:
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


def _write_json(path: Path, content: dict[str, Any]) -> None:
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error
