"""Make a checkpoint for release: half precision, with fitted temperatures and chosen thresholds.

    python -m train.convert NETWORK DATA --output PATH

NETWORK is a checkpoint of fer-train with a FER+ layer, or an EfficientNet-B0 of the earlier training script
(`train/script_files.py`). DATA holds `validation/<class>/` and `ferplus-votes.csv`.

Both temperatures are fitted on the validation split. Both thresholds below which a face is "unsure" are
chosen on one half of it and reported on the other (`train/calibration.py`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fer_stream.command.options import CommandParser
from fer_stream.command.reporting import exit_code_of
from fer_stream.errors import SourceError, WeightsError
from fer_stream.expressions import ANNOTATIONS, FER2013, FERPLUS
from fer_stream.recognition.weights import Checkpoint, load_checkpoint, save_checkpoint
from train.architectures import evaluation_network
from train.calibration import alternate, calibrate, shown_at, tempered
from train.data import evaluation_loader, open_folder
from train.folders import VOTES_NAME
from train.metrics import checkpoint_metrics, report
from train.prediction import EVALUATION_BATCH, predict
from train.pretrained import ARCHITECTURE
from train.script_files import read_content, read_script_file
from train.votes import majority, read_votes

PROG = "train.convert"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser(prog=PROG, description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "network", type=Path, metavar="NETWORK", help="a checkpoint, or a file of the earlier script"
    )
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="holds validation/<class>/ and ferplus-votes.csv"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="PATH", help="the checkpoint to write")
    return exit_code_of(PROG, lambda: _convert(parser.parse_args(argv)))


def _convert(options: argparse.Namespace) -> int:
    pictures = open_folder(options.data / "validation")
    votes_path = options.data / VOTES_NAME
    if not votes_path.is_file():
        raise SourceError(f"no votes at {votes_path}; put them there: the thresholds depend on them")
    votes = read_votes(votes_path, pictures).numpy()
    majority_labels, is_voted = majority(votes), votes.max(axis=1) > 0
    if not (majority_labels >= 0).any():
        raise SourceError(
            f"no picture has a clear majority in {votes_path}; check the names of the pictures there"
        )
    checkpoint = read_network(options.network)

    model = evaluation_network(checkpoint, ANNOTATIONS).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = evaluation_loader(pictures, checkpoint.input, EVALUATION_BATCH)
    logits, labels = predict(model, batches, torch.device("cpu"))
    first_half = alternate(labels)
    heads, reports = {}, {}
    layers = np.split(logits, len(ANNOTATIONS), axis=1)
    for annotation, layer_logits in zip(ANNOTATIONS, layers, strict=True):
        truth = majority_labels if annotation == FERPLUS else labels
        found = calibrate(layer_logits, truth, labels, votes)
        heads[annotation] = replace(
            checkpoint.head(annotation), temperature=found.temperature, unsure_below=found.unsure_below
        )
        known = truth >= 0
        measured = reports[annotation] = report(layer_logits[known], truth[known], found.temperature)
        print(f"{annotation}: {measured.count} pictures, accuracy {100 * measured.accuracy:.2f} %, macro-F1 "
              f"{100 * measured.macro_f1:.2f} %, ECE {100 * measured.ece:.2f} % at a temperature of "
              f"{found.temperature:.3f}; unsure below {found.unsure_below:.2f}")  # fmt: skip
        for name, half in (("chosen on", first_half), ("the other half", ~first_half)):
            chosen = half & is_voted
            probabilities = tempered(layer_logits[chosen], found.temperature)
            labelled = shown_at(found.unsure_below, probabilities, majority_labels[chosen])
            print(f"  {name}: {labelled.count} faces, {100 * labelled.shown:.1f} % shown, "
                  f"{100 * labelled.right:.1f} % of these right")  # fmt: skip
    checkpoint = replace(
        checkpoint,
        temperature=heads[FER2013].temperature,
        unsure_below=heads[FER2013].unsure_below,
        ferplus=heads[FERPLUS],
        metrics=checkpoint_metrics(reports[FER2013], reports[FERPLUS]),
    )
    save_checkpoint(options.output, checkpoint, half_precision=True)
    load_checkpoint(options.output)  # check the written file
    print(f"wrote {options.output}, {options.output.stat().st_size / 1e6:.2f} MB")
    return 0


def read_network(path: Path) -> Checkpoint:
    """Read a checkpoint of fer-train or a file of the earlier script.

    Raises:
        WeightsError: The file can't be read, is neither of the two, has no FER+ layer, or holds a network
            that fer-stream does not run.
    """
    content = read_content(path)
    if isinstance(content, dict) and "architecture" in content:
        checkpoint = load_checkpoint(path)
        checkpoint.head(FERPLUS)  # raises if there is no such layer
        return checkpoint
    checkpoint = read_script_file(path)
    if checkpoint.architecture != ARCHITECTURE:
        raise WeightsError(f"{path} holds a {checkpoint.architecture}; fer-stream runs {ARCHITECTURE} only")
    return checkpoint


if __name__ == "__main__":
    sys.exit(main())
