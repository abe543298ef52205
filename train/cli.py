"""The `fer-train` command: turn options into a run, and errors into one line and an exit code.

Options, folders and the weights file are checked in this order, before the import of torch, which takes
seconds.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fer_stream.command.options import CommandParser, StoreOnce, number, whole
from fer_stream.command.reporting import exit_code_of
from fer_stream.errors import OutOfMemoryError, ReaderGoneError, UsageError
from fer_stream.expressions import ANNOTATIONS
from fer_stream.system.extras import require_extra
from fer_stream.system.files import new_folders_removed, to_standard_output, write_json
from fer_stream.system.interrupts import interrupts_raised
from fer_stream.version import __version__
from train.config import GPU_VALUES, RECIPES, TrainConfig, recipe_config
from train.folders import (
    RUN_NAMES,
    STATE_NAME,
    check_outside,
    check_pretrained,
    check_resumable,
    check_run_folder,
    check_votes,
    class_folders,
    find_layout,
)
from train.process import prepare_process

PROG = "fer-train"
HIGHEST_LR = 1  # far above any rate at which the optimizers converge
EXIT_CODES = (
    "Exit codes: 0 done, 1 not enough memory or an unexpected error, 2 wrong usage, 3 a problem with the "
    "data, 4 with an output, 5 with the weights, 130 interrupted."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)

    def run() -> int:
        # A folder of this name is given as ./evaluate.
        if arguments[:1] == ["evaluate"]:
            options = _evaluate_parser().parse_args(arguments[1:])
            require_extra("train", "this command")
            _evaluate(options)
        else:
            options = _train_parser().parse_args(arguments)
            require_extra("train", "this command")
            _train(options, arguments)
        return 0

    return exit_code_of(PROG, run)


def _train_parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=PROG,
        usage="%(prog)s DATA [options]\n       %(prog)s evaluate WEIGHTS FOLDER [options]",
        description="Train the expression network on DATA/train/<class>/ and DATA/validation/<class>/. "
        "Write best-weights.pt, history.csv, curves.png, confusion-matrix.png and metrics.json. "
        f"`{PROG} evaluate` measures how good weights are; see `{PROG} evaluate --help`.",
        epilog=EXIT_CODES,
        examples=(
            f"{PROG} DATA",
            f"{PROG} DATA --recipe strong --minutes 600",
            f"{PROG} DATA --recipe strong --minutes 600 --resume",
            f"{PROG} evaluate runs/strong/best-weights.pt DATA/validation",
        ),
    )
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="folder with train/<class>/ and validation/<class>/"
    )

    run = parser.add_argument_group("the run")
    run.add_argument(
        "--output",
        action=StoreOnce,
        type=Path,
        metavar="DIR",
        help="folder for the results (default: runs/<recipe>)",
    )
    run.add_argument(
        "--resume", action="store_true", help="continue the run in --output after its last epoch"
    )
    run.add_argument("--overwrite", action="store_true", help="replace the run in --output")
    run.add_argument(
        "--device",
        type=_device,
        metavar="NAME",
        help=f"auto, cpu, cuda or cuda:N (default: {_default('device')})",
    )
    run.add_argument(
        "--workers",
        type=whole(0, 64),
        metavar="N",
        help=f"extra processes that prepare pictures (default: {_default('workers')})",
    )

    recipe = parser.add_argument_group("the recipe")
    recipe.add_argument(
        "--recipe",
        choices=sorted(RECIPES),
        default="baseline",
        help="baseline is simple and short; strong also learns from FER+ votes, takes longer and reads "
        "better (default: %(default)s)",
    )
    recipe.add_argument(
        "--epochs",
        type=whole(1, 10_000),
        metavar="N",
        help=f"passes over the pictures (default: {_default('epochs')})",
    )
    recipe.add_argument(
        "--minutes",
        type=number(lambda value: 0.1 <= value <= 100_000, "a number from 0.1 to 100000"),
        metavar="M",
        help="train for this time instead of a number of epochs; needs --recipe strong",
    )
    recipe.add_argument(
        "--architecture",
        metavar="NAME",
        help="network to train: one of timm's, or resnet18_48px. fer-stream runs efficientnet_b0 only; other "
        "networks are for use as teachers "
        f"(default: {_default('architecture')})",
    )
    recipe.add_argument(
        "--batch-size",
        type=whole(2, 65_536),
        metavar="N",
        help=f"pictures in a training step (default: {_default('batch_size')})",
    )
    recipe.add_argument(
        "--lr",
        type=number(lambda value: 0 < value <= HIGHEST_LR, f"a number above 0 and at most {HIGHEST_LR}"),
        metavar="RATE",
        help=f"learning rate, or its peak if the recipe changes it (default: {_default('lr')})",
    )
    recipe.add_argument(
        "--input-size",
        type=whole(32, 512),
        metavar="PX",
        help=f"side of the network's input, 32 to 512 (default: {_default('input_size')})",
    )
    recipe.add_argument(
        "--rotation",
        type=number(lambda value: 0 <= value <= 180, "an angle from 0 to 180 degrees"),
        metavar="DEGREES",
        dest="rotation_degrees",
        help=f"rotate pictures by up to this much either way (default: {_default('rotation_degrees')})",
    )
    recipe.add_argument(
        "--pretrained",
        metavar="WHAT",
        help="weights to start from: imagenet, none, or the path of a checkpoint or of weights of "
        f"EfficientNet-B0 or -Lite0 (default: {_default('pretrained')})",
    )
    recipe.add_argument(
        "--teacher",
        action="append",
        metavar="PATH",
        dest="teachers",
        help="checkpoint of a trained network, of any architecture; the new network also learns its answers. "
        "Needs --recipe strong; may be given several times",
    )
    recipe.add_argument(
        "--seed",
        type=whole(0, 2**31 - 1),
        metavar="N",
        help=f"seed of the random numbers, so that a run can be repeated (default: {_default('seed')})",
    )

    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _default(name: str) -> str:
    """Return the recipes' defaults for a setting, as text for the help."""
    values = {recipe: str(getattr(config, name)) for recipe, config in RECIPES.items()}
    text = ", ".join(f"{value} for {recipe}" for recipe, value in values.items())
    if len(set(values.values())) == 1:
        text = next(iter(values.values()))
    on_gpu = GPU_VALUES["strong"].get(name)
    return text if on_gpu is None else f"{text}, {on_gpu} for strong on a GPU"


def _evaluate_parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=f"{PROG} evaluate",
        description="Measure how well weights read the pictures in FOLDER/<class>/: accuracy, macro-F1, "
        "recall, calibration error (ECE) and the confusion matrix. The labels are those of FER2013, which "
        "the folders are named after, and also the FER+ majority if the weights have a FER+ layer and "
        "ferplus-votes.csv lies beside FOLDER. All of this is measured once more with the answers averaged "
        "over each picture and its mirror image, and once more without the pictures that also occur in "
        "train/ beside FOLDER.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("weights", type=Path, metavar="WEIGHTS", help="weights file made by fer-train")
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="folder that holds a folder for each expression"
    )
    parser.add_argument(
        "--labels",
        choices=ANNOTATIONS,
        help="measure only against this annotation (default: against all that are possible)",
    )
    parser.add_argument(
        "--json", action=StoreOnce, type=Path, metavar="PATH", help="also write the figures as JSON"
    )
    parser.add_argument(
        "--device",
        type=_device,
        default="auto",
        metavar="NAME",
        help="auto, cpu, cuda or cuda:N (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size",
        type=whole(1, 65_536),
        default=256,
        metavar="N",
        help="pictures in a batch (default: %(default)s)",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


def _train(options: argparse.Namespace, arguments: list[str]) -> None:
    """Check everything, then run the training."""
    began_s = time.monotonic()
    if options.resume and options.overwrite:
        raise UsageError(f"--resume and --overwrite can't be used together; see {PROG} --help")
    if options.epochs is not None and options.minutes is not None:
        raise UsageError(f"--epochs and --minutes can't be used together; see {PROG} --help")
    config = recipe_config(options.recipe, _given(options), on_gpu=False)
    output: Path = options.output or Path("runs") / config.recipe
    check_outside(output, find_layout(options.data))
    if config.pretrained not in ("imagenet", "none") and not options.resume:
        check_pretrained(Path(config.pretrained))
    if not options.resume:
        _check_teachers(config)
    # With several machines, only the first one has the state.
    if options.resume and os.environ.get("RANK", "0") == "0":
        check_resumable(output)
    with new_folders_removed([output]):
        check_run_folder(output, resume=options.resume, overwrite=options.overwrite)
        if options.overwrite:
            _check_kept(output, config)
        _run(options, arguments, config, output, began_s)


def _run(
    options: argparse.Namespace, arguments: list[str], config: TrainConfig, output: Path, began_s: float
) -> None:
    """Train after the checks, write the results and print the figures."""
    # A state file that still has this stamp belongs to an earlier run.
    state_before = _stamp(output / STATE_NAME)
    try:
        prepare_process()
        from fer_stream.command.console import PatientConsole
        from train.loop import train
        from train.parallel import pick_device
        from train.progress import TrainingProgress, summarize_run
        from train.results import write_results

        with interrupts_raised():
            on_gpu = pick_device(config.device).type == "cuda"
            config = recipe_config(options.recipe, _given(options), on_gpu=on_gpu)
            console = PatientConsole(quiet=options.quiet)
            with _device_memory_in_words(), TrainingProgress(console) as progress:
                result = train(
                    options.data,
                    output,
                    config,
                    resume=options.resume,
                    overwrite=options.overwrite,
                    reporter=progress,
                    began_s=began_s,
                )
            if result is not None:
                files = write_results(output, result)
                summarize_run(console, result, files)
    except KeyboardInterrupt:
        is_ours = _stamp(output / STATE_NAME) not in (0, state_before)
        raise KeyboardInterrupt(_how_to_go_on(arguments, can_resume=is_ours or options.resume)) from None


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that the options give."""
    names = TrainConfig.__dataclass_fields__
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    given.pop("recipe")
    if "teachers" in given:
        given["teachers"] = tuple(given["teachers"])
    return given


def _stamp(path: Path) -> int:
    """Return a number that changes when the file does; 0 if it does not exist."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _how_to_go_on(arguments: list[str], *, can_resume: bool) -> str:
    kept = [argument for argument in arguments if argument not in ("--resume", "--overwrite")]
    processes = os.environ.get("LOCAL_WORLD_SIZE", "1")
    command = PROG if processes == "1" else f"torchrun --nproc-per-node {processes} -m train"
    if can_resume:
        return f"interrupted; continue with: {command} {shlex.join([*kept, '--resume'])}"
    return f"interrupted before the end of an epoch; start again with: {command} {shlex.join(arguments)}"


def _evaluate(options: argparse.Namespace) -> None:
    """Check everything, measure, and print the figures."""
    from fer_stream.recognition.weights import check_weights_file

    check_weights_file(options.weights, options.labels)
    class_folders(options.folder)
    check_votes(options.folder, options.labels)
    if options.json is not None:
        from fer_stream.sinks import check_output

        check_output(options.json, overwrite=True, source_path=options.weights, extensions=(".json",))

    prepare_process()
    from fer_stream.command.console import PatientConsole
    from train.evaluation import evaluate
    from train.progress import TrainingProgress, summarize_evaluation
    from train.results import evaluation_metrics

    with interrupts_raised():
        console = PatientConsole(quiet=options.quiet)
        with _device_memory_in_words(), TrainingProgress(console) as progress:
            evaluation = evaluate(
                options.weights,
                options.folder,
                labels=options.labels,
                device=options.device,
                batch_size=options.batch_size,
                reporter=progress,
            )
        if options.json is not None:
            write_json(options.json, evaluation_metrics(evaluation))
        if not options.quiet:
            # The console ignores a full disk, but these figures are the command's output.
            with console.capture() as captured:
                summarize_evaluation(console, evaluation)
            with suppress(ReaderGoneError):  # `head` has read all that it wants
                to_standard_output(captured.get().encode("utf-8", "replace"))


def _check_teachers(config: TrainConfig) -> None:
    from fer_stream.recognition.weights import load_checkpoint

    for teacher in config.teachers:
        load_checkpoint(Path(teacher), any_architecture=True)


def _check_kept(output: Path, config: TrainConfig) -> None:
    """Refuse to start from files that `--overwrite` removes: a run that stops early would lose them."""
    replaced = [output / name for name in RUN_NAMES if (output / name).exists()]
    for path in map(Path, (config.pretrained, *config.teachers)):
        if path.exists() and any(path.samefile(each) for each in replaced):
            raise UsageError(f"{path} belongs to the run that --overwrite replaces; choose another --output")


@contextmanager
def _device_memory_in_words() -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError("lower --batch-size or --input-size") from error


def _device(text: str) -> str:
    """Check the form of a device's name, as a type for argparse. Only torch knows whether it exists."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, cpu, cuda or cuda:N")
    return text
