"""Write the result files of a run or an evaluation: metrics.json and the charts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_stream.system.files import write_json
from train.folders import CONFUSION_NAME, CURVES_NAME, METRICS_NAME, RESULT_NAMES
from train.plots import save_confusion_matrix, save_curves

if TYPE_CHECKING:
    from train.evaluation import BothViews, Evaluation
    from train.loop import Result


def run_metrics(result: Result) -> dict[str, Any]:
    """Return the content of `metrics.json`: the figures of the best weights, the settings and the cost."""
    config = result.config
    epochs = result.history[-1].epoch
    training_s = sum(row.images / row.images_per_s for row in result.history)
    images = sum(row.images for row in result.history)
    return {
        **result.validation.as_dict(),
        "ece_before_temperature": result.untempered.ece,
        "temperature": result.temperature,
        "ferplus": None if result.ferplus is None else result.ferplus.as_dict(),
        "recipe": config.recipe,
        "epoch": result.epoch,
        "config": asdict(config),
        "initial_weights": result.origin,
        "images": {"train": result.train_count, "validation": result.validation.count},
        "cost": {
            "epochs": epochs,
            "duration_s": round(result.elapsed_s, 1),
            "train_images": images,
            "train_images_per_s": round(images / training_s, 1),
        },
    }


def evaluation_metrics(evaluation: Evaluation) -> dict[str, Any]:
    """Return the content of `fer-train evaluate --json`: the figures by annotation."""
    return {
        annotation: {
            **_both_views(layer.figures),
            **({} if layer.not_in_train is None else {"not_in_train": _both_views(layer.not_in_train)}),
            "ece_before_temperature": layer.untempered.ece,
            "temperature": layer.temperature,
            "unsure_below": layer.unsure_below,
            "reliability": [
                {"from": each.low, "to": each.high, "count": each.count, "accuracy": each.accuracy}
                for each in layer.reliability
            ],
        }
        for annotation, layer in evaluation.layers.items()
    }


def _both_views(figures: BothViews) -> dict[str, Any]:
    return {**figures.measured.as_dict(), "mirrored": figures.mirrored.as_dict()}


def write_results(output: Path, result: Result) -> list[Path]:
    """Write curves.png, confusion-matrix.png and metrics.json. Return all files of the run.

    Raises:
        OutputError: A file can't be written.
    """
    measured = result.validation
    save_curves(result.history, output / CURVES_NAME)
    save_confusion_matrix(
        measured,
        output / CONFUSION_NAME,
        subtitle=f"FER2013's own labels  ·  epoch {result.epoch}  ·  {measured.count} validation pictures  "
        f"·  accuracy {100 * measured.accuracy:.1f} %  ·  macro-F1 {100 * measured.macro_f1:.1f} %",
    )
    write_json(output / METRICS_NAME, run_metrics(result))
    return [output / name for name in RESULT_NAMES]
