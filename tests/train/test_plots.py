"""The charts of a training run, read back from the written files."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fer_stream.expressions import EXPRESSIONS
from train.metrics import report
from train.plots import save_confusion_matrix, save_curves
from train.reporter import HistoryRow


def test_every_half_in_the_confusion_matrix_rounds_up(tmp_path):
    angry, disgust = EXPRESSIONS.index("angry"), EXPRESSIONS.index("disgust")
    labels = np.full(8, angry)
    for hits, shown in ((1, ("13 %", "88 %")), (3, ("38 %", "63 %"))):
        logits = np.zeros((8, len(EXPRESSIONS)))
        logits[:hits, angry] = logits[hits:, disgust] = 5.0
        path = tmp_path / f"{hits}.svg"
        save_confusion_matrix(report(logits, labels), path, subtitle="eight pictures")
        assert all(f"<!-- {text} -->" in path.read_text() for text in shown)
        assert f"<!-- {100 * hits / 8:.1f} % -->" in path.read_text(), "the recall beside it"


@pytest.mark.parametrize("loss", [math.nan, math.inf])
@pytest.mark.parametrize("epoch", [1, 3])
def test_the_curves_of_a_run_with_an_epoch_that_diverged(loss, epoch, tmp_path):
    losses = {1: 5.0, 2: 0.9, 3: 1.1} | {epoch: loss}
    history = [
        HistoryRow(number, 1.0, 0.5, each, 0.5, None, 10, 1.0, 1.0, number == 2)
        for number, each in losses.items()
    ]
    path = tmp_path / "curves.svg"
    save_curves(history, path)
    assert path.read_text().count("<!-- validation -->") == 2, "both panels name the curve"
