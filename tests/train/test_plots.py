"""The charts of a training run, read back from the written files."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fer_stream.expressions import EXPRESSIONS
from train.metrics import report
from train.plots import save_confusion_matrix, save_curves
from train.reporter import HistoryRow
from train.results import write_results


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


@pytest.mark.parametrize("agreement", [None, 0.8])
def test_the_curves_say_which_labels_they_are_measured_by(agreement, tmp_path):
    history = [HistoryRow(1, 1.0, 0.5, 1.0, 0.5, agreement, 10, 1.0, 1.0, True)]
    path = tmp_path / "curves.svg"
    save_curves(history, path)
    text = path.read_text()
    assert "validation: FER2013's own labels" in text
    assert ("FER+: its majority" in text) == (agreement is not None)


def test_the_confusion_matrix_of_a_run_says_which_labels_it_is_measured_by(unbroken, tmp_path, monkeypatch):
    monkeypatch.setattr("train.results.CONFUSION_NAME", "confusion-matrix.svg")
    write_results(tmp_path, unbroken[1])
    assert "FER2013's own labels" in (tmp_path / "confusion-matrix.svg").read_text()
