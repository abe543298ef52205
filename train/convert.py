"""Make a checkpoint for release: half precision, with fitted temperatures and chosen thresholds.

    python -m train.convert NETWORK DATA --output PATH

NETWORK is a checkpoint of fer-train with a FER+ layer, or the file of another script. The latter is a dict
that `torch.load(weights_only=True)` reads. Its `state_dict` holds timm's network under `body.` and under
`votes.` a second last layer for the ten classes of the FER+ votes; its `stage` holds the input size. DATA
holds `validation/<class>/` and `ferplus-votes.csv`.

Both temperatures are fitted on the validation split. Both thresholds below which a face is "unsure" are
chosen on one half of it and reported on the other. The halves are the even and the odd pictures of each
class, in the order of their names.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fer_stream.command.options import CommandParser, exit_code_of
from fer_stream.errors import SourceError, WeightsError
from fer_stream.expressions import ANNOTATIONS, EXPRESSIONS, FERPLUS
from fer_stream.recognition.torch_files import NotATorchFileError, UnsafeTorchFileError, load_torch_file
from fer_stream.recognition.weights import Checkpoint, Head, load_checkpoint, save_checkpoint
from train.config import RECIPES
from train.data import evaluation_loader, input_spec, open_folder
from train.folders import VOTES_NAME
from train.metrics import fit_temperature, log_softmax, report
from train.prediction import EVALUATION_BATCH, build_with_heads, predict
from train.votes import VOTED_ROWS, majority, read_votes

BODY, VOTES = "body.", "votes."
FER2013_SIDE = 48  # px of the pictures that these networks were trained on
SHOWN_RIGHT = 0.9  # at least this share of the labels that are shown must be right
CONFIDENCE_Z = 1.645  # one-sided, 95 %
THRESHOLDS = np.arange(0, 100) / 100


@dataclass(frozen=True)
class Shown:
    """The labels that are shown at a threshold, measured on faces that people voted on.

    Attributes:
        count: Number of faces, shown or not.
        shown: Share of the faces whose best probability reaches the threshold.
        right: Share of the shown faces whose label is the majority's. A face without a clear majority for
            one of the seven expressions counts as wrong.
    """

    count: int
    shown: float
    right: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser(prog="train.convert", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "network", type=Path, metavar="NETWORK", help="a checkpoint, or another script's file"
    )
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="holds validation/<class>/ and ferplus-votes.csv"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="PATH", help="the checkpoint to write")
    options = parser.parse_args(argv)
    return exit_code_of("train.convert", lambda: _convert(options))


def _convert(options: argparse.Namespace) -> int:
    pictures = open_folder(options.data / "validation")
    votes_path = options.data / VOTES_NAME
    if not votes_path.is_file():
        raise SourceError(f"no votes at {votes_path}; put them there: the thresholds depend on them")
    votes = read_votes(votes_path, pictures).numpy()
    checkpoint = read_network(options.network)

    model = build_with_heads(checkpoint, ANNOTATIONS).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = evaluation_loader(pictures, checkpoint.input, EVALUATION_BATCH)
    logits, labels = predict(model, batches, torch.device("cpu"))
    seen, is_voted = majority(votes), votes.max(axis=1) > 0
    first_half = alternate(labels)
    heads = {}
    metrics: dict[str, float] = {}
    for annotation, some in zip(ANNOTATIONS, np.split(logits, len(ANNOTATIONS), axis=1), strict=True):
        truth = seen if annotation == FERPLUS else labels
        known = truth >= 0
        temperature = fit_temperature(some[known], truth[known])
        probabilities = np.exp(log_softmax(some.astype(np.float64) / temperature))
        threshold = choose_threshold(probabilities[first_half & is_voted], seen[first_half & is_voted])
        heads[annotation] = replace(
            checkpoint.head(annotation), temperature=temperature, unsure_below=threshold
        )
        measured = report(some[known], truth[known], temperature)
        print(f"{annotation}: {measured.count} pictures, accuracy {100 * measured.accuracy:.2f} %, macro-F1 "
              f"{100 * measured.macro_f1:.2f} %, ECE {100 * measured.ece:.2f} % at a temperature of "
              f"{temperature:.3f}; unsure below {threshold:.2f}")  # fmt: skip
        for name, half in (("chosen on", first_half), ("the other half", ~first_half)):
            chosen = half & is_voted
            got = shown_at(threshold, probabilities[chosen], seen[chosen])
            print(f"  {name}: {got.count} faces, {100 * got.shown:.1f} % shown, "
                  f"{100 * got.right:.1f} % of these right")  # fmt: skip
        for name in ("count", "accuracy", "macro_f1", "loss", "ece"):
            metrics[f"validation_{annotation}_{name}"] = float(getattr(measured, name))
    fer2013 = heads.pop("fer2013")
    checkpoint = replace(
        checkpoint,
        temperature=fer2013.temperature,
        unsure_below=fer2013.unsure_below,
        ferplus=heads[FERPLUS],
        metrics=metrics,
    )
    save_checkpoint(options.output, checkpoint, half_precision=True)
    load_checkpoint(options.output)  # check the written file
    print(f"wrote {options.output}, {options.output.stat().st_size / 1e6:.2f} MB")
    return 0


def read_network(path: Path) -> Checkpoint:
    """Read a checkpoint of fer-train, or convert another script's file to one.

    A converted checkpoint has no temperatures and thresholds yet.

    Raises:
        WeightsError: The file can't be read, is neither of the two, or has no FER+ layer.
    """
    try:
        content = load_torch_file(path)
    except (NotATorchFileError, UnsafeTorchFileError, OSError) as error:
        raise WeightsError(f"{path} can't be read as a network: {error}") from error
    if isinstance(content, dict) and "architecture" in content:
        checkpoint = load_checkpoint(path)
        checkpoint.head(FERPLUS)
        return checkpoint
    try:
        stage: dict[str, Any] = content["stage"]
        arrays = {name: array.astype(np.float32) if array.dtype.kind == "f" else array
                  for name, array in content["state_dict"].items()}  # fmt: skip
        state_dict = {name[len(BODY) :]: array for name, array in arrays.items() if name.startswith(BODY)}
        rows = list(VOTED_ROWS)
        ferplus = Head(arrays[VOTES + "weight"][rows], arrays[VOTES + "bias"][rows])
        config = replace(RECIPES["strong"], input_size=int(stage["size"]))
        return Checkpoint(
            state_dict=state_dict,
            input=input_spec(config, FER2013_SIDE),
            ferplus=ferplus,
            recipe=f"converted from {path.name}",
            epoch=round(content["epochs"]),
        )
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise WeightsError(
            f"{path} is not a network with a layer of FER+ votes; see train/convert.py"
        ) from error


def alternate(labels: np.ndarray) -> np.ndarray:
    """Return a mask of every second picture of each class, which is the first half, bool (N,)."""
    first = np.zeros(len(labels), bool)
    for label in range(len(EXPRESSIONS)):
        first[np.flatnonzero(labels == label)[::2]] = True
    return first


def choose_threshold(probabilities: np.ndarray, seen: np.ndarray) -> float:
    """Return the lowest threshold at which enough of the labels that are shown are right.

    The faces are a sample, and the threshold has to hold for other faces, too. So it is the lower end of the
    share's confidence interval that has to reach `SHOWN_RIGHT`, not the share itself.

    Args:
        probabilities: (N, 7).
        seen: int (N,) from `votes.majority`.

    Returns:
        A multiple of 0.01; 1 if no threshold is good enough.
    """
    confidence, is_right = probabilities.max(axis=1), probabilities.argmax(axis=1) == seen
    for threshold in THRESHOLDS:
        shown = confidence >= threshold
        if shown.any() and lower_bound(int(is_right[shown].sum()), int(shown.sum())) >= SHOWN_RIGHT:
            return float(threshold)
    return 1.0


def lower_bound(hits: int, count: int) -> float:
    """Return the lower end of Wilson's score interval for a share, one-sided, at `CONFIDENCE_Z`.

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, 1927.
    """
    share, z2 = hits / count, CONFIDENCE_Z**2
    spread = CONFIDENCE_Z * np.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return float((share + z2 / (2 * count) - spread) / (1 + z2 / count))


def shown_at(threshold: float, probabilities: np.ndarray, seen: np.ndarray) -> Shown:
    """Measure the labels that are shown at a threshold. `choose_threshold` explains the arguments."""
    shown = probabilities.max(axis=1) >= threshold
    right = (probabilities.argmax(axis=1) == seen)[shown]
    return Shown(len(seen), float(shown.mean()), float(right.mean()) if len(right) else 1.0)


if __name__ == "__main__":
    sys.exit(main())
