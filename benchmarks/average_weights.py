"""Makes one checkpoint whose weights are the mean of several, and measures it.

    python benchmarks/average_weights.py runs/mean DATA/validation runs/[ab]/best-weights.pt

Epochs of one run, or runs that began from the same weights, lie in one basin of the loss, and their mean
often does better than each of them. Its temperature is fitted on the folder.

Source: Wortsman et al., Model soups: averaging weights of multiple fine-tuned models improves accuracy
without increasing inference time, 2022.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fer_stream.errors import FerStreamError, WeightsError
from fer_stream.recognition.torch_model import load_model
from fer_stream.recognition.weights import Checkpoint, save_checkpoint
from train.data import open_folder
from train.folders import WEIGHTS_NAME, check_run_folder
from train.loop import fit_best


def mean_of(paths: Sequence[Path]) -> Checkpoint:
    """Returns the checkpoint of the first path with the mean of the weights of all.

    Raises:
        WeightsError: One can't be read, or reads its pictures otherwise than the first.
    """
    checkpoints = [load_model(path)[0] for path in paths]
    first = checkpoints[0]
    for path, checkpoint in zip(paths, checkpoints, strict=True):
        if (checkpoint.architecture, checkpoint.input) != (first.architecture, first.input):
            raise WeightsError(f"{path} takes other pictures than {paths[0]}; give weights of one kind")

    def mean(name: str) -> np.ndarray:
        arrays = [checkpoint.state_dict[name] for checkpoint in checkpoints]
        return np.mean(arrays, axis=0) if arrays[0].dtype == np.float32 else arrays[0]

    weights = {name: mean(name) for name in first.state_dict}
    return replace(first, epoch=0, temperature=1.0, metrics={}, state_dict=weights)


def main() -> int:
    """Runs the script and returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help=f"where {WEIGHTS_NAME} is written")
    parser.add_argument("validation", type=Path, metavar="VALIDATION", help="a folder of labelled pictures")
    parser.add_argument("weights", type=Path, nargs="+", metavar="WEIGHTS", help="checkpoints of fer-train")
    options = parser.parse_args()
    try:
        validation, checkpoint = open_folder(options.validation), mean_of(options.weights)
        check_run_folder(options.run, resume=False, overwrite=False)
        save_checkpoint(options.run / WEIGHTS_NAME, checkpoint)
        _, measured, _ = fit_best(options.run, validation, 0, torch.device("cpu"))
    except FerStreamError as error:
        print(f"average_weights: {error}", file=sys.stderr)
        return error.exit_code
    print(
        f"mean of {len(options.weights)}: accuracy {100 * measured.accuracy:.2f} %  "
        f"cross-entropy {measured.loss:.4f}  ECE {100 * measured.ece:.2f} %"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
