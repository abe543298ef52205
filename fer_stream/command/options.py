"""Options that all commands share."""

from __future__ import annotations

import argparse
import difflib
import math
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from fer_stream.errors import UsageError
from fer_stream.expressions import ANNOTATIONS, FERPLUS
from fer_stream.ranges import BATCH, MIN_FACE, SCAN_EVERY, SMOOTH_S, UNSURE_BELOW, Range, whole_numbers
from fer_stream.system.files import to_standard_output

if TYPE_CHECKING:
    from fer_stream.detection.pace import ScanEvery

_T = TypeVar("_T")


class CommandParser(argparse.ArgumentParser):
    """An argument parser that accepts full option names only and reports errors in one line.

    Args:
        examples: Commands to show at the end of the help, each on a line of its own.
        **settings: Settings of `argparse.ArgumentParser`.
    """

    def __init__(self, *, examples: Sequence[str] = (), **settings: object) -> None:
        super().__init__(allow_abbrev=False, **settings)  # type: ignore[arg-type]
        self.examples = tuple(examples)

    def format_help(self) -> str:
        """Return the help, with the examples at its end. argparse itself would wrap them."""
        lines = [f"  {example}\n" for example in self.examples]
        return super().format_help() + "".join(["\nexamples:\n", *lines] if lines else [])

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def, override]
        """Parse as usual, but refuse `--option=--`, which before Python 3.13 gives an empty list."""
        options, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            value = getattr(options, action.dest, None)
            # It is [[]] if the option may be given several times.
            if action.nargs is None and isinstance(value, list) and (not value or [] in value):
                self.error(f"argument {'/'.join(action.option_strings)}: '--' is not a value")
        return options, rest

    def _print_message(self, message: str, file: object = None) -> None:
        """Print help or a version. argparse itself ignores a standard output that takes nothing."""
        to_standard_output(message.encode())

    def error(self, message: str) -> NoReturn:
        """Raise a UsageError instead of printing the usage and ending the process."""
        text = message + self._suggestion(message)
        see = " See" if text.endswith("?") else "; see"
        raise UsageError(f"{text}{see} {self.prog} --help")

    def _suggestion(self, message: str) -> str:
        """Return a hint about unknown arguments, or an empty text.

        It is the closest option, or how to name a file that begins with a dash.
        """
        if not message.startswith("unrecognized arguments"):
            return ""
        given = message.partition(": ")[2].split()
        # `Path.is_file` raises for a very long name.
        file = next((name for name in given if name[0] == "-" and os.path.isfile(name)), None)  # noqa: PTH113
        if file is not None:
            return f"; for the file {file}, write ./{file}"
        names = [name[2:] for action in self._actions for name in action.option_strings if name[:2] == "--"]
        unknown = [name for name in re.findall(r"--([\w-]+)", message) if name not in names]
        meant = [
            f"--{close[0]}" for name in unknown if (close := difflib.get_close_matches(name, names, n=1))
        ]
        return f"; did you mean {' and '.join(dict.fromkeys(meant))}?" if meant else ""


class StoreOnce(argparse.Action):
    """Store the value of an option, and refuse a second value instead of forgetting the first.

    This is for options that name a source or an output. For a setting, the last value counts, as usual.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Store the value; see `argparse.Action`."""
        if getattr(namespace, self.dest) != self.default:
            parser.error(f"{option_string} can be given only once")
        setattr(namespace, self.dest, values)


def in_range(accepted: Range) -> Callable[[str], Any]:
    """Return an argparse type for the numbers of a range."""
    return _parser(int if accepted.is_whole else float, accepted.holds, accepted.what)


def whole(lowest: int, highest: int = 1_000_000) -> Callable[[str], int]:
    """Return an argparse type for a whole number from `lowest` to `highest`."""
    return in_range(whole_numbers(lowest, highest))


def size_wh(text: str) -> tuple[int, int]:
    """Parse a width and height in pixels, such as 1280x720, for argparse."""
    parts = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text)
    size = (int(parts[1]), int(parts[2])) if parts else (0, 0)
    if 0 in size:
        raise argparse.ArgumentTypeError(f"{text!r} is not a width and a height such as 1280x720")
    return size


def number(fits: Callable[[float], bool], what: str) -> Callable[[str], float]:
    """Return an argparse type for a finite number that `fits` accepts. `what` describes it in errors."""
    return _parser(float, lambda value: math.isfinite(value) and fits(value), what)


def _parser(convert: Callable[[str], _T], fits: Callable[[_T], bool], what: str) -> Callable[[str], _T]:
    def parse(text: str) -> _T:
        with suppress(ValueError):
            if text.isascii() and fits(value := convert(text)):
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")

    return parse


def add_analysis_options(
    parser: argparse.ArgumentParser, devices: str = "auto, cpu, cuda or cuda:N"
) -> argparse._ArgumentGroup:
    """Add the options of the analysis, and return their group. `devices` lists the values of `--device`."""
    analysis = parser.add_argument_group("analysis")
    analysis.add_argument(
        "--device", default="auto", help=f"where the networks run: {devices} (default: %(default)s)"
    )
    analysis.add_argument(
        "--weights", metavar="PATH", help="weights file made by fer-train (default: the built-in weights)"
    )
    add_labels_option(analysis)
    analysis.add_argument(
        "--unsure-below",
        type=in_range(UNSURE_BELOW),
        metavar="P",
        help='call a face "unsure" if its most probable expression has a probability below P; 0 turns this '
        "off (default: the threshold in the weights file)",
    )
    analysis.add_argument(
        "--min-face",
        type=in_range(MIN_FACE),
        metavar="PX",
        help="ignore faces smaller than this, in pixels (default: 40); another value may also find or miss "
        "a few larger faces",
    )
    analysis.add_argument(
        "--scan-every",
        type=_scan_every,
        metavar="N",
        help="search the whole frame for new faces at least every N frames (default: auto, which means every "
        "10 frames, every 4 if there are three faces or more, and in a live source as often as the machine "
        "can keep up)",
    )
    analysis.add_argument(
        "--smooth",
        type=in_range(SMOOTH_S),
        metavar="SECONDS",
        help="smooth the probabilities over about this time; 0 gives each frame its own (default: 0.3)",
    )
    analysis.add_argument(
        "--batch",
        type=in_range(BATCH),
        metavar="N",
        help="process this many frames of a recording at a time, and read the faces in half of them "
        "together (default: 8)",
    )
    return analysis


def add_labels_option(parser: argparse._ActionsContainer) -> None:
    """Add `--labels`, which chooses the annotation to follow."""
    parser.add_argument(
        "--labels",
        choices=ANNOTATIONS,
        help="annotation that the percentages follow: ferplus, the majority of ten people, or fer2013, the "
        f"label of one person (default: {FERPLUS} if the weights have it)",
    )


def analysis_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments for `Analyzer` from the given options of `add_analysis_options`."""
    settings = {
        "labels": options.labels,
        "unsure_below": options.unsure_below,
        "min_face": options.min_face,
        "scan_every": options.scan_every,
        "smooth_s": options.smooth,
        "batch": options.batch,
    }
    return {name: value for name, value in settings.items() if value is not None}


def _scan_every(text: str) -> ScanEvery:
    """Parse auto or a whole number of frames, for argparse."""
    try:
        return "auto" if text == "auto" else in_range(SCAN_EVERY)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor auto") from error
