"""Makes the built-in weights from a run: half-precision storage, held against the run's own.

    python benchmarks/publish_weights.py runs/baseline DATA/validation

Both are measured on the folder. Where their accuracies differ by more than 0.1 points, nothing is
published and the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from fer_stream.errors import FerStreamError
from fer_stream.recognition.weights import BUILT_IN_WEIGHTS, load_checkpoint, save_checkpoint
from train.evaluation import evaluate
from train.folders import WEIGHTS_NAME

MOST_POINTS = 0.1


def publish(run: Path, validation: Path, target: Path = BUILT_IN_WEIGHTS) -> bool:
    """Stores `run`'s best weights in half precision at `target` if they do as well there.

    Args:
        run: The output folder of a finished run.
        validation: Holds a folder of pictures for each expression.
        target: Where to.

    Returns:
        Whether they were published.
    """
    original = run / WEIGHTS_NAME
    checkpoint = load_checkpoint(original)
    with tempfile.TemporaryDirectory() as folder:
        candidate = Path(folder) / WEIGHTS_NAME
        save_checkpoint(candidate, checkpoint, half_precision=True)
        accuracies = []
        for path in (original, candidate):
            measured = evaluate(path, validation).figures.measured
            accuracies.append(100 * measured.accuracy)
            print(f"{path.stat().st_size / 1e6:5.1f} MB  accuracy {100 * measured.accuracy:.2f} %  "
                  f"macro-F1 {100 * measured.macro_f1:.2f} %  ECE {100 * measured.ece:.2f} %")  # fmt: skip
    points = abs(accuracies[1] - accuracies[0])
    if points > MOST_POINTS:
        print(f"not published: the accuracies differ by {points:.2f} points, more than {MOST_POINTS}")
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(target, checkpoint, half_precision=True)
    print(f"wrote {target}; the accuracies differ by {points:.2f} points, at most {MOST_POINTS} allowed")
    return True


def main() -> int:
    """Run the script and return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="the output folder of fer-train")
    parser.add_argument("validation", type=Path, metavar="VALIDATION", help="a folder of labelled pictures")
    options = parser.parse_args()
    try:
        return 0 if publish(options.run, options.validation) else 1
    except FerStreamError as error:
        print(f"publish_weights: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
