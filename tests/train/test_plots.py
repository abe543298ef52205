"""The charts of a training run, read back from the written files."""

from __future__ import annotations

import numpy as np

from fer_stream.expressions import EXPRESSIONS
from train.metrics import report
from train.plots import save_confusion_matrix


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
