"""The folders of a run: the pictures that it reads and the files that it writes. Loads no torch.

A command checks both before it spends seconds on importing torch.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from fer_stream.errors import OutputError, SourceError
from fer_stream.expressions import EXPRESSIONS, FER2013, FERPLUS
from fer_stream.system.files import replacing

WEIGHTS_NAME = "best-weights.pt"
STATE_NAME = "last-state.pt"
HISTORY_NAME = "history.csv"
CURVES_NAME = "curves.png"
CONFUSION_NAME = "confusion-matrix.png"
METRICS_NAME = "metrics.json"
VOTES_NAME = "ferplus-votes.csv"  # in the data folder, beside train/ and validation/
RESULT_NAMES = (WEIGHTS_NAME, HISTORY_NAME, CURVES_NAME, CONFUSION_NAME, METRICS_NAME)
RUN_NAMES = (STATE_NAME, *RESULT_NAMES)


def check_classes(folder: Path) -> None:
    """Checks that `folder` holds a folder for each of the seven expressions and no other.

    Raises:
        SourceError: It does not.
    """
    if not folder.is_dir():
        raise SourceError(f"no folder {folder}; expected {folder}/<class>/ for {', '.join(EXPRESSIONS)}")
    try:
        classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    except OSError as error:
        raise SourceError(f"can't read {folder}: {error.strerror or error}") from error
    if classes != list(EXPRESSIONS):
        found = ", ".join(classes) or "none"
        raise SourceError(f"{folder} should have the folders {', '.join(EXPRESSIONS)}; found {found}")


def check_run_folder(output: Path, *, resume: bool, overwrite: bool) -> None:
    """Checks that a run can write into `output`; makes the folder if missing.

    Raises:
        OutputError: It holds files of a run's names that are neither to be resumed nor replaced, or can't
            be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except FileExistsError as error:
        raise OutputError(f"can't write into {output}: it is a file; name a folder") from error
    except OSError as error:
        raise OutputError(f"can't write into {output}: {error.strerror or error}") from error
    if resume or overwrite:
        return
    for name in RUN_NAMES:
        if (output / name).exists():
            can_resume = "go on with --resume, " if (output / STATE_NAME).exists() else ""
            raise OutputError(
                f"{output} holds a {name} already; {can_resume}replace it with --overwrite, or choose "
                "another --output"
            )


def remove_run(output: Path) -> None:
    """Removes the files of an earlier run, so that none of them can pass for the new one's."""
    for name in RUN_NAMES:
        (output / name).unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str) -> None:
    """Writes a text file; a kill leaves the old or the new one."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def check_votes(folder: Path, labels: str | None) -> None:
    """Check that the votes that `labels` asks for lie beside a folder.

    Raises:
        SourceError: They do not.
    """
    if labels == FERPLUS and not (folder.parent / VOTES_NAME).is_file():
        raise SourceError(f"no FER+ votes at {folder.parent / VOTES_NAME}; put them there, or use "
                          f"--labels {FER2013}")  # fmt: skip
