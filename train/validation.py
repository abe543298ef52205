"""Measure a network on the validation split, for each annotation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fer_stream.expressions import EXPRESSIONS, FERPLUS
from fer_stream.recognition.preprocessing import InputSpec
from train.acceleration import half_precision
from train.architectures import TwoHeaded
from train.calibration import Calibration, calibrate
from train.data import Pictures, evaluation_loader, read_batches
from train.metrics import Report, report
from train.parallel import Processes
from train.prediction import EVALUATION_BATCH, predict
from train.votes import VOTE_INDICES, majority


@dataclass(frozen=True, eq=False)
class Measured:
    """A network's answers for the validation split, and its figures without temperatures.

    Attributes:
        logits: float32 (N, 7), from the FER2013 layer.
        ferplus_logits: float32 (N, 7), from the FER+ layer, or None.
        fer2013: Figures of the FER2013 layer against FER2013's labels.
        ferplus: Figures of the FER+ layer against the FER+ majority, over the pictures that have a clear
            one; None without such a layer or without votes.
    """

    logits: np.ndarray
    ferplus_logits: np.ndarray | None
    fer2013: Report
    ferplus: Report | None


class Validation:
    """The validation split of a run.

    Args:
        pictures: The pictures.
        votes: float32 (N, 10) from `votes.read_votes`, or None.
        spec: The input that the network expects.
        device: The network's device. If it is a GPU, the pictures are kept there.
        workers: Number of processes that prepare pictures.
        processes: The processes of the run.
    """

    def __init__(
        self,
        pictures: Pictures,
        votes: np.ndarray | None,
        spec: InputSpec,
        device: torch.device,
        workers: int,
        processes: Processes,
    ) -> None:
        self._device, self._processes = device, processes
        self._labels = np.array(pictures.targets)
        self._votes = votes
        self._majority_labels = None if votes is None else majority(votes)
        loader = evaluation_loader(pictures, spec, EVALUATION_BATCH, workers, processes)
        self.batch_count = len(loader)
        self._batches: Iterable[tuple[torch.Tensor, torch.Tensor]] = loader
        self._half_dtype = half_precision(device)
        if device.type == "cuda":
            self._batches = [(_filled(images).to(device), labels) for images, labels in read_batches(loader)]

    def measure(
        self, network: TwoHeaded, on_batch: Callable[[float, float, float], None] | None = None
    ) -> Measured:
        """Measure a network. Every process reads its share of the pictures.

        Args:
            network: The network. It is put into evaluation mode.
            on_batch: See `prediction.predict`.
        """
        half = self._half_dtype
        # Use the precision and batch size of the training steps, for which a GPU has chosen its algorithms.
        with torch.autocast(self._device.type, dtype=half or torch.bfloat16, enabled=half is not None):
            logits, _ = predict(_SideBySide(network), self._batches, self._device, on_batch)
        logits = self._processes.in_order(logits)
        ferplus = logits[:, len(EXPRESSIONS) :] if logits.shape[1] > len(EXPRESSIONS) else None
        return self.measure_logits(logits[:, : len(EXPRESSIONS)], ferplus)

    def measure_logits(self, logits: np.ndarray, ferplus_logits: np.ndarray | None) -> Measured:
        """Measure a network by its logits for the whole split."""
        ferplus = None
        if (
            ferplus_logits is not None
            and self._majority_labels is not None
            and (self._majority_labels >= 0).any()
        ):
            clear = self._majority_labels >= 0
            ferplus = report(ferplus_logits[clear], self._majority_labels[clear])
        return Measured(logits, ferplus_logits, report(logits, self._labels), ferplus)

    def calibrate(self, measured: Measured, annotation: str) -> tuple[Calibration, Report]:
        """Calibrate a layer, see `calibration.calibrate`.

        Args:
            measured: The answers.
            annotation: `fer2013` or `ferplus`.

        Returns:
            The calibration, and the layer's figures with that temperature.
        """
        logits, truth = measured.logits, self._labels
        if annotation == FERPLUS:
            if measured.ferplus_logits is None or self._majority_labels is None:
                raise ValueError("the FER+ layer needs answers and votes to be calibrated")
            logits, truth = measured.ferplus_logits, self._majority_labels
        calibration = calibrate(logits, truth, self._labels, self._votes)
        known = truth >= 0
        return calibration, report(logits[known], truth[known], calibration.temperature)


def _filled(images: torch.Tensor) -> torch.Tensor:
    """Fill up a batch to its full length by repeating the last picture."""
    missing = EVALUATION_BATCH - len(images)
    return torch.cat([images, images[-1:].expand(missing, -1, -1, -1)]) if missing else images


class _SideBySide(nn.Module):
    """A network whose logits are those of both layers, seven each."""

    def __init__(self, network: TwoHeaded) -> None:
        super().__init__()
        self._network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits, votes = self._network(images)
        if votes is None:
            return logits
        seven: torch.Tensor = torch.cat([logits, votes[:, list(VOTE_INDICES)]], dim=1)
        return seven
