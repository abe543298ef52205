"""The `fer-stream` command: turn options into objects, and errors into one line and an exit code.

Options, source, output paths and the weights file are checked in this order before any network loads. A
failed check leaves nothing behind. Messages go to standard error, so that `--data -` has standard output to
itself.
"""

from __future__ import annotations

import time

STARTED_S = time.monotonic()  # before the imports, because the user also waits for them

import argparse  # noqa: E402
import platform  # noqa: E402
import sys  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

from fer_stream.command.logs import LOGGER, log_to_standard_error  # noqa: E402
from fer_stream.command.native_messages import native_messages  # noqa: E402
from fer_stream.command.options import (  # noqa: E402
    CommandParser,
    StoreOnce,
    add_analysis_options,
    in_range,
    number,
    size_wh,
)
from fer_stream.command.outputs import OUTPUT_OPTIONS, PROG, check_outputs_differ  # noqa: E402
from fer_stream.command.reporting import exit_code_of  # noqa: E402
from fer_stream.errors import UsageError, one_line  # noqa: E402
from fer_stream.ranges import CAMERA, STILLS_EVERY_S  # noqa: E402
from fer_stream.system.files import to_standard_output  # noqa: E402
from fer_stream.version import __version__  # noqa: E402


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    parser = CommandParser(
        prog=PROG,
        description="Find every face in a video, a camera, pictures or a stream, and read its expression.",
        epilog="Exit codes: 0 done, 1 not enough memory or an unexpected error, 2 wrong usage, 3 a problem "
        "with the source, 4 with an output, 5 with the weights, 130 interrupted.",
        examples=(
            f"{PROG} interview.mp4 --save annotated.mp4 --data table.csv",
            f"{PROG} interview.mp4 --report report.html --chart timeline.png",
            f"{PROG} photos/ --save annotated/ --data photos.csv",
            f"{PROG} --camera 0",
            f"{PROG} --camera 0 --serve 8000",
        ),
    )
    parser.add_argument(
        "source",
        nargs="?",
        metavar="SOURCE",
        help="a video file, a picture, a folder or glob of pictures, or an http or rtsp address",
    )
    parser.add_argument(
        "--camera", action=StoreOnce, type=in_range(CAMERA), metavar="N", help="read camera N; the first is 0"
    )
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
    for option in OUTPUT_OPTIONS:
        outputs.add_argument(
            f"--{option.name}",
            action=StoreOnce,
            metavar="DIR" if option.is_folder else "PATH",
            help=option.help,
        )
    when = outputs.add_mutually_exclusive_group()
    when.add_argument(
        "--stills-every",
        type=in_range(STILLS_EVERY_S),
        metavar="SECONDS",
        help="with --stills: save a still every SECONDS",
    )
    when.add_argument(
        "--stills-on",
        choices=["change"],
        help="with --stills: save a still when a new person or a new expression has been there for "
        "0.3 s (the default)",
    )
    outputs.add_argument(
        "--show",
        action=argparse.BooleanOptionalAction,
        help="open a live window, or none (default: open one for a live source, if there is a display); it "
        "shows a recording as fast as it is analyzed, and closes at the end",
    )
    outputs.add_argument(
        "--serve",
        action=StoreOnce,
        metavar="[HOST:]PORT",
        help="live page for a browser, only on this machine unless you give a HOST such as 0.0.0.0; port 0 "
        "picks a free port (needs the extra web)",
    )
    outputs.add_argument(
        "--virtual-camera",
        action="store_true",
        help="send the annotated picture to meeting software (needs the extra virtual-camera)",
    )
    outputs.add_argument(
        "--blur",
        action="store_true",
        help="hide every face that is found, in everything that is shown or written; searches every frame, "
        "which takes longer",
    )
    outputs.add_argument("--overwrite", action="store_true", help="replace existing outputs")
    outputs.add_argument(
        "--profile",
        action=StoreOnce,
        metavar="PATH",
        help="write the speed, the time of each stage and the memory as JSON",
    )

    part = parser.add_argument_group("part of a recording (T is in seconds or [HH:]MM:SS[.mmm])")
    part.add_argument("--start", metavar="T", help="start at this time")
    part.add_argument("--end", metavar="T", help="stop at this time (exclusive)")

    analysis = add_analysis_options(parser)
    analysis.add_argument("--mirror", action="store_true", help="mirror every frame")

    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument(
        "--verbose", action="store_true", help="log each step to standard error, with tracebacks of errors"
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""

    def run() -> int:
        options = _parsed(argv)
        with native_messages(shown=options.verbose):
            log_to_standard_error(PROG, verbose=options.verbose)
            LOGGER.debug("version %s, Python %s, %s", __version__, platform.python_version(), sys.platform)
            return _run(options)

    return exit_code_of(PROG, run, has_verbose=True)


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments. Several sources are an error that names fer-batch."""
    parser = build_parser()
    options, rest = parser.parse_known_args(argv)
    if rest and options.source is not None and not any(argument.startswith("-") for argument in rest):
        raise UsageError(
            f"{1 + len(rest)} sources are given, and only one can be read ({rest[0]!r} is the second); "
            "fer-batch analyzes many recordings"
        )
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def _run(options: argparse.Namespace) -> int:
    """Run the command with these options, and return the exit code."""
    if options.list_cameras:
        if options.source is not None or options.camera is not None:
            raise UsageError("--list-cameras takes no source; leave one of them out")
        _list_cameras()
        return 0
    _check(options)
    # Imported only now, because wrong options should be found before OpenCV, PyAV and the rest load.
    from fer_stream.command.running import analyze

    return analyze(options, STARTED_S)


def _list_cameras() -> None:
    """List the cameras on standard output, or say that no camera was found."""
    from fer_stream.sources.cameras import list_cameras

    cameras = list_cameras()
    width = max((len(camera.name) for camera in cameras), default=0)
    lines = [f"{each.index}  {one_line(each.name):<{width}}  {each.note}".rstrip() for each in cameras]
    none = "no camera was found; connect one, or check that this program may use it"
    to_standard_output("".join(f"{line}\n" for line in lines or [none]).encode())


def _check(options: argparse.Namespace) -> None:
    """Check the options before anything is opened."""
    from fer_stream.inference.devices import pick_device
    from fer_stream.sources.time_text import parse_time
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
        raise UsageError("--blur always searches every frame; leave --scan-every out")
    if options.profile == "-":
        raise UsageError("--profile can't write to standard output; give the path of a file")
    check_outputs_differ(options)
    if options.serve is not None:
        from fer_stream.web.addresses import parse_host_and_port

        require_extra("web", "--serve")
        parse_host_and_port(options.serve)
    if options.virtual_camera:
        require_extra("virtual-camera", "--virtual-camera")
    if options.data is not None and Path(options.data).suffix.lower() == ".parquet":
        require_extra("parquet", f"--data {options.data}")
    if options.device != "auto":  # auto always works, and finding a GPU may take long
        pick_device(options.device)
    for text in (options.start, options.end):
        if text is not None:
            parse_time(text)
