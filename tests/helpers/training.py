"""Settings and votes for runs that take seconds, and reporters that record or stop a run."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import torch

from train.cli import main
from train.config import RECIPES, TrainConfig
from train.reporter import Reporter
from train.votes import VOTED

CONFIG = TrainConfig(epochs=2, batch_size=14, input_size=32, pretrained="none", device="cpu")
STRONG = replace(
    RECIPES["strong"], epochs=3, batch_size=14, input_size=48,
    pretrained="none", device="cpu", ema_decay=0.5, warmup_share=0.2,
)  # fmt: skip


class Recorder(Reporter):
    """Records all reports."""

    def __init__(self) -> None:
        self.events: list[tuple] = []
        self.notes: list[str] = []

    def started(self, config, origin, train_count, validation_count):
        self.events.append(("started", origin, train_count, validation_count))

    def phase(self, epoch, name, batches):
        self.events.append(("phase", epoch, name, batches))

    def batch(self, loss, accuracy, images_per_s, done=1):
        assert loss > 0 and 0 <= accuracy <= 1 and images_per_s > 0 and done == 1
        self.events.append(("batch",))

    def epoch_done(self, row):
        self.events.append(("done", row.epoch))

    def note(self, text):
        self.notes.append(text)


class StopInEpoch(Reporter):
    """Imitates a Ctrl-C in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch, self.stop_at = 0, epoch

    def phase(self, epoch, name, batches):
        self.epoch, self.batches = epoch, 0

    def batch(self, loss, accuracy, images_per_s, done=1):
        self.batches += 1
        if self.epoch == self.stop_at and self.batches == 2:
            raise KeyboardInterrupt


def write_votes(root: Path, votes: dict[str, dict[str, int]]) -> None:
    """Write `ferplus-votes.csv`.

    Args:
        root: The data folder.
        votes: For each picture's file name, the number of votes by FER+'s names; 0 for those left out.
    """
    with (root / "ferplus-votes.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["file", *VOTED], restval=0)
        table.writeheader()
        table.writerows({"file": name, **counts} for name, counts in votes.items())


def without_times(history) -> list:
    return [replace(row, images_per_s=0.0, duration_s=0.0) for row in history]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "best-weights.pt", weights_only=True)["state_dict"]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def fails(arguments, capsys) -> tuple[int, str]:
    """Return the exit code and the single line on standard error."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert captured.err.startswith("fer-train: ") and captured.err.count("\n") == 1, captured.err
    return code, captured.err
