"""The interface through which a run tells of its progress."""

from __future__ import annotations

from dataclasses import dataclass

from train.config import TrainConfig


@dataclass(frozen=True)
class Epoch:
    """One row of the history: an epoch, or several between two validations where time is short.

    Attributes:
        epoch: The last one, from 1.
        train_loss: Mean of what was minimised over the epoch, of the augmented pictures.
        train_accuracy: The same pictures; how often the target's most probable label was found.
        validation_loss: Mean cross-entropy.
        validation_accuracy: The same pictures.
        ferplus_agreement: Share of the validation pictures with a clear FER+ majority for which the FER+
            layer says the same; None without such a layer.
        images: Training pictures since the row before.
        images_per_s: The same a second.
        duration_s: Seconds since the row before, validation included.
        best: Whether its weights were saved.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    ferplus_agreement: float | None
    images: int
    images_per_s: float
    duration_s: float
    best: bool


class Reporter:
    """Hears of a run's progress. This one ignores it; the command's shows it."""

    def started(self, config: TrainConfig, origin: str, train_count: int, validation_count: int) -> None:
        """The data and the network are there."""

    def phase(self, epoch: int, name: str, batches: int) -> None:
        """A phase (`train` or `validation`) of an epoch begins; epoch 0 is for work outside of epochs."""

    def batch(self, loss: float, accuracy: float, images_per_s: float, done: int = 1) -> None:
        """Some batches are done, by default one; the figures are of the phase so far."""

    def progress(self, share: float, left_s: float | None) -> None:
        """Report the share of the run that is done, and in a run by the clock the seconds that are left."""

    def note(self, text: str) -> None:
        """Something that whoever watches should know."""

    def epoch_done(self, row: Epoch) -> None:
        """An epoch is done and saved."""
