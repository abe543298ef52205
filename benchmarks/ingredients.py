"""Measure what each ingredient of the strong recipe is worth, with the same number of pictures for each row.

    python benchmarks/ingredients.py DATA --output DIR --pretrained LITE0 --teacher A --teacher B

The first row is the strong recipe without teachers. Every other row changes one thing. Each row trains on the
same part of the training pictures for the same number of epochs, and the weights after the last epoch are
measured on the whole validation split. No row is chosen by that split.

The differences are paired: they compare the answers to the same picture. Their standard error covers the
choice of the pictures only. The row with another seed shows how much two equal runs differ.

DIR/ingredients.json keeps the answers of each row. A second call with the same options goes on with the rows
that are missing, and prints the table again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from train.process import prepare_process  # noqa: E402

prepare_process()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from train.architectures import TwoHeaded, new_body  # noqa: E402
from train.augmentation import GENTLE, STRONG, Strength  # noqa: E402
from train.config import TrainConfig, recipe_config  # noqa: E402
from train.data import Pictures, check_sizes, input_spec  # noqa: E402
from train.folders import STATE_NAME, VOTES_NAME  # noqa: E402
from train.loop import train  # noqa: E402
from train.parallel import Processes, pick_device  # noqa: E402
from train.reporter import HistoryRow, Reporter  # noqa: E402
from train.splits import open_splits  # noqa: E402
from train.validation import Validation  # noqa: E402
from train.votes import VOTED, majority  # noqa: E402

WHOLE, NOT_AVERAGED, LIGHT = "strong recipe", "without the moving average", "flips and rotation only"
# The settings that each row changes, the most important rows first.
CHANGES: dict[str, dict[str, Any]] = {
    WHOLE: {},
    "without votes": {"votes_weight": 0.0, "expected_share": 0.0, "gentle_expected_share": 0.0},
    "another seed": {"seed": 1},
    "without the gentle part": {"gentle_share": 0.0},
    "without mixup": {"mixup_alpha": 0.0},
    LIGHT: {},
    "without standardized pictures": {"standardize": False},
}
AUGMENTATION = {"STRONG": STRONG, "GENTLE": GENTLE}
LIGHT_AUGMENTATION = {name: Strength(full.rotation, 0, 0, 0, 0, 0, 0) for name, full in AUGMENTATION.items()}
KINDS = ("fer2013", "ferplus", "dark")  # `dark`: the FER2013 layer's answers in a fifth of the light


class Darkened(Pictures):
    """Pictures in a fifth of the light."""

    def image(self, index: int) -> Image.Image:
        """Read a picture as RGB."""
        return super().image(index).point(lambda value: value // 5)


class Lines(Reporter):
    """Prints a line for each epoch."""

    def epoch_done(self, row: HistoryRow) -> None:
        """Print the epoch."""
        print(
            f"  epoch {row.epoch}: loss {row.train_loss:.4f}, {row.images_per_s:.0f} pictures/s", flush=True
        )


def main() -> None:
    """Run the rows that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA", help="has train/, validation/ and FER+ votes")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="for runs and answers")
    parser.add_argument("--every", type=int, default=5, metavar="N", help="train on every N-th picture")
    parser.add_argument("--epochs", type=int, default=5, metavar="N", help="passes over these pictures")
    parser.add_argument("--input-size", type=int, default=64, metavar="PX", help="side, in all rows but one")
    parser.add_argument("--pretrained", default="imagenet", metavar="WHAT", help="as for fer-train")
    parser.add_argument(
        "--teacher", type=Path, action="append", default=[], metavar="PATH", help="for the row with teachers"
    )
    parser.add_argument("--device", default="auto", metavar="NAME", help="as for fer-train")
    options = parser.parse_args()

    other_px = 64 if options.input_size == 112 else 112
    rows = CHANGES | {f"{other_px} px": {"input_size": other_px}}
    if options.teacher:
        rows["with the teachers"] = {"teachers": tuple(map(str, options.teacher))}
    budget = {name: str(value) for name, value in vars(options).items() if name != "output"}
    path = options.output / "ingredients.json"
    done: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"budget": budget}
    if done["budget"] != budget:
        parser.error(f"{path} was made with {done['budget']}; choose another --output")
    part = link_part(options.data, options.output / "data", options.every)
    given = {name: getattr(options, name) for name in ("epochs", "input_size", "pretrained", "device")}
    on_gpu = pick_device(options.device).type == "cuda"
    for name in [name for name in rows if name not in done]:
        print(name, flush=True)
        folder = options.output / name.replace(" ", "-")
        config = recipe_config("strong", given | rows[name], on_gpu=on_gpu)
        began_s = time.monotonic()
        strengths = LIGHT_AUGMENTATION if name == LIGHT else AUGMENTATION
        with mock.patch.multiple("train.batches", **strengths):
            train(part, folder, config, resume=(folder / STATE_NAME).is_file(), reporter=Lines())
        state = torch.load(folder / STATE_NAME, map_location="cpu", weights_only=True)
        seconds = round(time.monotonic() - began_s)
        done[name] = answers_of(state["average"], config, options.data) | {"seconds": seconds}
        if name == WHOLE:
            done[NOT_AVERAGED] = answers_of(state["model"], config, options.data) | {"seconds": seconds}
        path.write_text(json.dumps(done, indent=1))
    print_table(done, options.data)


def link_part(data: Path, part: Path, every: int) -> Path:
    """Make a data folder of links to every N-th picture of each class. Return it."""
    paths = [data / VOTES_NAME]
    for split in ("train", "validation"):
        for folder in sorted((data / split).iterdir()):
            paths += sorted(folder.iterdir())[::every]
    for path in paths:
        link = part / path.relative_to(data)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(path.resolve())
    return part


def answers_of(state: dict[str, torch.Tensor], config: TrainConfig, data: Path) -> dict[str, Any]:
    """Return a digit for the answer to each validation picture, by kind."""
    device = pick_device(config.device)
    network = TwoHeaded(new_body(config.architecture), len(VOTED) if "votes_layer.weight" in state else 0)
    network.load_state_dict(state)
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pictures = open_splits(data, with_votes=False).validation
    spec = input_spec(config, check_sizes(pictures))
    light, dark = (
        Validation(each, None, spec, device, 0, Processes()).measure(network)
        for each in (pictures, Darkened(pictures.samples, pictures.root))
    )
    # Without votes there is one layer, and it answers for both annotations.
    ferplus = light.logits if light.ferplus_logits is None else light.ferplus_logits
    answers = zip(KINDS, (light.logits, ferplus, dark.logits), strict=True)
    return {kind: "".join(map(str, logits.argmax(axis=1))) for kind, logits in answers}


def print_table(done: dict[str, Any], data: Path) -> None:
    """Print each row's share of right answers, and its paired difference to the first row."""
    splits = open_splits(data, with_votes=True)
    labels = np.array(splits.validation.targets)
    seen = majority(splits.validation_votes.numpy())  # type: ignore[union-attr]
    truths = dict(zip(KINDS, (labels, seen, labels), strict=True))

    def right(name: str, kind: str) -> np.ndarray:
        truth = truths[kind]
        return 100.0 * (np.array(list(done[name][kind]), int) == truth)[truth >= 0]

    print("| row | FER2013 | difference | FER+ | difference | a fifth of the light | difference | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for name in [name for name in done if name != "budget"]:
        cells = []
        for kind in KINDS:
            gain = right(name, kind) - right(WHOLE, kind)
            error = gain.std() / len(gain) ** 0.5
            cells += [f"{right(name, kind).mean():.1f} %", f"{gain.mean():+.1f} ± {error:.1f}"]
        print(f"| {name} | {' | '.join(cells)} | {done[name]['seconds']} |")


if __name__ == "__main__":
    main()
