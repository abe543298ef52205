"""The `fer-batch` command: turn options into a run, and errors into one line and an exit code.

Options, recordings, weights and the output are checked in this order before Ray starts.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fer_stream.command.options import (
    CommandParser,
    StoreOnce,
    add_analysis_options,
    analysis_settings,
    number,
    whole,
)
from fer_stream.command.reporting import BLUR_REMINDER, exit_code_of, say
from fer_stream.errors import UsageError
from fer_stream.sources.time_text import parse_time
from fer_stream.system.extras import require_extra
from fer_stream.system.files import new_folders_removed, to_standard_output
from fer_stream.system.interrupts import interrupts_raised
from fer_stream.version import __version__
from fer_stream.words import clock_text, counted

if TYPE_CHECKING:
    from fer_stream.batch.cluster import Cluster
    from fer_stream.batch.estimate import Estimate
    from fer_stream.batch.inputs import Recording
    from fer_stream.batch.manifest import Record
    from fer_stream.batch.output_folder import Output
    from fer_stream.batch.settings import Settings

PROG = "fer-batch"
DEFAULT_GPU_SHARE = 0.25
LEAST_PART_S = 1.0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    parser = CommandParser(
        prog=PROG,
        description="Analyze many recordings with many processes, on this machine or on a Ray cluster. "
        "If you run it again, it does only what is missing, failed or changed.",
        epilog="Exit codes: 0 done, 1 not enough memory or an unexpected error, 2 wrong usage, 3 a recording "
        "failed, 4 a problem with an output, 5 with the weights, 130 interrupted.",
        examples=(
            f"{PROG} interviews/ --output results",
            f"{PROG} interviews/ --output results --save --chart --report",
            f"{PROG} --from-file list.txt --output results --table csv",
            f"{PROG} interviews/ --output results --dry-run",
        ),
    )
    parser.add_argument(
        "videos",
        nargs="*",
        metavar="VIDEOS",
        help="files, folders, globs, or addresses such as s3://bucket/*.mp4",
    )
    parser.add_argument(
        "--from-file",
        action=StoreOnce,
        metavar="LIST",
        help="text file that lists VIDEOS, one per line; - reads standard input",
    )

    outputs = parser.add_argument_group("outputs")
    outputs.add_argument(
        "--output",
        action=StoreOnce,
        required=True,
        metavar="DIR",
        help="folder or address for the results: tables/*, summary.*, manifest.parquet",
    )
    outputs.add_argument(
        "--table",
        choices=["parquet", "csv"],
        default="parquet",
        help="format of the tables and the summary (default: parquet)",
    )
    outputs.add_argument("--save", action="store_true", help="also write annotated videos, videos/*.mp4")
    outputs.add_argument("--chart", action="store_true", help="also write timelines, charts/*.png")
    outputs.add_argument(
        "--report",
        action="store_true",
        help="also write reports, reports/*.html, and index.html, which lists them",
    )
    outputs.add_argument(
        "--blur",
        action="store_true",
        help="hide every face that is found, in all videos and pictures; searches every frame, and cuts no "
        "recording into parts",
    )
    outputs.add_argument(
        "--episodes",
        action=StoreOnce,
        choices=["csv", "vtt", "eaf"],
        default="",
        help="also write episodes, the stretches of one expression, to episodes/*: as tables, subtitles, "
        "or for ELAN",
    )

    run = parser.add_argument_group("the run")
    run.add_argument("--ray", metavar="ADDRESS", help="use the Ray cluster at this address")
    run.add_argument(
        "--workers",
        type=whole(1, 1024),
        metavar="N",
        help="processes on this machine (default: one per core)",
    )
    run.add_argument(
        "--part",
        metavar="T",
        help="cut long recordings into parts of this length, in seconds or [HH:]MM:SS (default: 10:00); "
        "each part of a recording at an address copies the whole file",
    )
    run.add_argument(
        "--gpu-share",
        type=number(lambda value: 0 < value <= 1, "a number above 0, up to 1"),
        metavar="F",
        help=f"share of a GPU that each process takes (default: {DEFAULT_GPU_SHARE})",
    )
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="only print what would be done and about how long it would take",
    )
    add_analysis_options(parser, devices="auto, cpu or cuda")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return exit_code_of(PROG, lambda: _run(build_parser().parse_args(argv)))


def _run(options: argparse.Namespace) -> int:
    """Check everything, start Ray, and analyze the recordings that are not done."""
    require_extra("batch", "this command")
    part_s = _check(options)
    from fer_stream.batch.addresses import is_address, local_path
    from fer_stream.batch.archive import write_records
    from fer_stream.batch.inputs import find_recordings, read_list
    from fer_stream.batch.manifest import DONE, finished
    from fer_stream.batch.output_folder import Output
    from fer_stream.batch.settings import DEFAULT_PART_S, Settings
    from fer_stream.recognition.weights import BUILT_IN_WEIGHTS, load_for_labels
    from fer_stream.system.cores import CORES

    address = local_path(options.output)
    address = address if is_address(address) else os.path.abspath(address)  # noqa: PTH100
    listed = [] if options.from_file is None else read_list(options.from_file)
    if not options.videos and not listed:
        raise UsageError(f"{options.from_file} lists no recording")
    recordings = find_recordings(options.videos, listed=listed, leave_out=address)
    weights = Path(options.weights) if options.weights is not None else BUILT_IN_WEIGHTS
    checkpoint, labels = load_for_labels(weights, options.labels)
    # Read them before Ray starts. The file may change while it does, and the hash would be wrong.
    weights_content = weights.read_bytes()

    workers = options.workers or CORES
    settings = Settings(
        weights_hash=hashlib.sha256(weights_content).hexdigest(),
        built_in_weights=options.weights is None,
        weights_name=weights.name,
        weights_unsure_below=checkpoint.head(labels).unsure_below,
        threads=1 if options.ray is not None else max(1, CORES // workers),
        # A face at the edge of a part must be hidden by what the next part sees.
        part_s=math.inf if options.blur else DEFAULT_PART_S if part_s is None else part_s,
        table=options.table,
        save=options.save,
        chart=options.chart,
        report=options.report,
        episodes=options.episodes,
        blur=options.blur,
        **analysis_settings(options) | {"labels": labels} | ({"scan_every": 1} if options.blur else {}),
    )
    # The GPUs are known only after Ray has started. Until then, results of both kinds of device are accepted.
    kinds = ("cpu", "cuda") if options.device == "auto" else (options.device,)
    with interrupts_raised(), ExitStack() as stack:
        output = Output(address)
        if not options.dry_run:
            if not is_address(address):  # if there is no cluster, for example
                stack.enter_context(new_folders_removed(Path(address, each) for each in settings.folders))
            output.make(settings.folders)
            output = stack.enter_context(output.marked())
        earlier = finished(recordings, [replace(settings, device_kind=kind) for kind in kinds], output)
        for note in earlier.notes:
            say(PROG, note)
        records = earlier.records
        todo = [each for each in recordings if records[each.output_name].state != DONE]
        if not todo:
            if not options.dry_run:  # they may be damaged, or list recordings that were removed
                write_records(output, records.values(), settings)
            if not options.quiet:
                done = counted(len(recordings), "recording")
                say(PROG, f"nothing to do in {output.place()}: {done} done already")
            return 0
        return _with_cluster(options, workers, settings, weights_content, output, records, recordings, todo)


def _with_cluster(
    options: argparse.Namespace,
    workers: int,
    settings: Settings,
    weights_content: bytes,
    output: Output,
    records: dict[str, Record],
    recordings: list[Recording],
    todo: list[Recording],
) -> int:
    """Analyze the recordings that are not done, or estimate how long that would take."""
    from fer_stream.batch.archive import Archive
    from fer_stream.batch.cluster import connected
    from fer_stream.batch.estimate import estimate
    from fer_stream.batch.progress import Progress

    done_before = len(recordings) - len(todo)
    with (
        Progress(todo, quiet=options.quiet or options.dry_run) as progress,
        connected(options.ray, workers, options.gpu_share or DEFAULT_GPU_SHARE) as cluster,
    ):
        kind = _device(options.device, cluster)
        settings = replace(settings, device=kind, device_kind=kind)
        weights_reference = None if settings.built_in_weights else cluster.put(weights_content)
        if options.dry_run:
            _print_estimate(estimate(todo, settings, weights_reference, cluster), done_before)
            return 0
        archive = Archive(records, settings, weights_reference, output, cluster, progress)
        try:
            archive.run(todo)
        except KeyboardInterrupt:
            progress.summarize(done_before, output.place(), settings, interrupted=True)
            raise
        progress.summarize(done_before, output.place(), settings)
        if settings.blur and not options.quiet:
            say(PROG, BLUR_REMINDER)
        return archive.exit_code


def _check(options: argparse.Namespace) -> float | None:
    """Check the options before anything is opened. Return the length of a part if the user chose one."""
    if not options.videos and options.from_file is None:
        raise UsageError(f"no recordings are given; see {PROG} --help")
    if not options.output:
        raise UsageError("--output has an empty name; give it a folder")
    if options.ray is not None and options.workers is not None:
        raise UsageError("--workers is for this machine; a cluster has as many processes as CPUs")
    if options.device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device is auto, cpu or cuda, not {options.device!r}: Ray decides which GPU")
    if options.gpu_share is not None and options.device == "cpu":
        raise UsageError("--gpu-share goes with GPUs; leave out --device cpu")
    if options.blur and (options.part is not None or options.scan_every not in (None, "auto", 1)):
        raise UsageError("--blur searches every frame in one part; leave --part and --scan-every out")
    if options.ray is None and options.device == "cuda":  # a cluster has other devices than this machine
        from fer_stream.inference.devices import pick_device

        pick_device("cuda")
    if options.part is None:
        return None
    part_s = parse_time(options.part)
    if part_s < LEAST_PART_S:
        raise UsageError(f"--part must be at least {LEAST_PART_S:g} second")
    return part_s


def _device(name: str, cluster: Cluster) -> str:
    if name == "cuda" and not cluster.has_gpus:
        raise UsageError("Ray finds no GPU; use --device cpu or auto")
    return "cuda" if name != "cpu" and cluster.has_gpus else "cpu"


def _print_estimate(estimated: Estimate, done_before: int) -> None:
    """Print what would be done: a line per recording to standard output, the rest to standard error."""
    for recording, duration_s, parts in estimated.recordings:
        length = clock_text(duration_s) if duration_s else "?"
        # A line break or tab in a name must not look like another line or column.
        name = "".join(each if each.isprintable() else "\ufffd" for each in recording.name)
        line = f"{name}\t{length}\t{counted(parts, 'part')}\n"
        to_standard_output(line.encode("utf-8", "replace"))
    earlier = f"; {counted(done_before, 'recording')} done already" if done_before else ""
    say(
        PROG,
        f"{counted(len(estimated.recordings), 'recording')}, {clock_text(estimated.video_s)} of video, in "
        f"{counted(sum(parts for *_, parts in estimated.recordings), 'part')} to do{earlier}",
    )
    if estimated.run_s is None:
        say(PROG, "how long that takes is unknown: no recording could be analyzed")
        return
    say(
        PROG,
        f"about {clock_text(estimated.run_s)} with {estimated.slots} at once: each analyzes "
        f"{estimated.rate:.2f} s of video per second, measured on {estimated.measured_s:.0f} s",
    )
