"""Check the folders and files of a run: those that it reads and those that it writes.

This module does not import torch, so that the command can check them before it spends seconds on that.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fer_stream.errors import OutputError, SourceError, UsageError, WeightsError
from fer_stream.expressions import EXPRESSIONS, FER2013, FERPLUS
from fer_stream.system.files import resolved
from train.files import cannot_read, is_file, is_folder

WEIGHTS_NAME = "best-weights.pt"
STATE_NAME = "last-state.pt"
HISTORY_NAME = "history.csv"
CURVES_NAME = "curves.png"
CONFUSION_NAME = "confusion-matrix.png"
METRICS_NAME = "metrics.json"
VOTES_NAME = "ferplus-votes.csv"  # in the data folder, beside train/ and validation/
VOTES_NAMES = (VOTES_NAME, "fer2013new.csv")  # FER+ publishes the second one
# Usual names of the folders with the training split and the validation split.
SPLITS = (
    ("train", "validation"),
    ("images/train", "images/validation"),
    ("Training", "PublicTest"),
    ("train", "val"),
    ("train", "test"),
)
PIXEL_TABLES = ("fer2013.csv", "icml_face_data.csv")
RESULT_NAMES = (WEIGHTS_NAME, HISTORY_NAME, CURVES_NAME, CONFUSION_NAME, METRICS_NAME)
RUN_NAMES = (STATE_NAME, *RESULT_NAMES)


@dataclass(frozen=True)
class Layout:
    """The places of the pictures and votes in a data folder.

    Attributes:
        name: A description of the layout.
        training: A folder that holds `<class>/`, or a table of pixels.
        validation: The same for the validation split. One table can hold both splits.
        votes: A table of FER+ votes, or None.
    """

    name: str
    training: Path
    validation: Path
    votes: Path | None

    @property
    def is_table(self) -> bool:
        """True if the pictures are in a table of pixels."""
        return self.training == self.validation


def find_layout(data: Path) -> Layout:
    """Recognize the layout of a data folder.

    Raises:
        SourceError: The layout is unknown, a class is missing, or a folder can't be read.
    """
    if is_file(data) and data.name in PIXEL_TABLES:
        data = data.parent
    pairs = [pair for pair in SPLITS if all(is_folder(data / split) for split in pair)]
    for training, validation in pairs:
        class_folders(data / training)
        class_folders(data / validation)
        votes = _votes_beside((data / training).parent, data)
        name = f"{training}/ and {validation}/"
        return Layout(name, data / training, data / validation, votes)
    for name in PIXEL_TABLES:
        if is_file(data / name):
            return Layout(f"{name} with its pixels", data / name, data / name, _votes_beside(data))
    for training, _ in SPLITS:  # one split is there: name the missing one
        if is_folder(data / training):
            raise SourceError(
                f"{data} has {training}/, but no validation split beside it; name that validation, val, "
                "test or PublicTest"
            )
    layouts = "; ".join(f"{training}/<class>/ and {validation}/<class>/" for training, validation in SPLITS)
    raise SourceError(
        f"no pictures recognized in {data}; it should hold {layouts}; or {PIXEL_TABLES[0]}. "
        f"The classes are {', '.join(EXPRESSIONS)}"
    )


def _votes_beside(*folders: Path) -> Path | None:
    paths = [folder / name for name in VOTES_NAMES for folder in folders]
    return next((path for path in paths if is_file(path)), None)


def class_folders(folder: Path) -> dict[str, Path]:
    """Return the folder of each of the seven expressions, whose names may differ in case.

    Raises:
        SourceError: One is missing, there are others, or the folder can't be read.
    """
    if not is_folder(folder):
        raise SourceError(f"no folder {folder}; expected {folder}/<class>/ for {', '.join(EXPRESSIONS)}")
    try:
        folders = sorted(entry for entry in folder.iterdir() if is_folder(entry))
    except OSError as error:
        raise cannot_read(folder, error) from error
    by_expression = {entry.name.lower(): entry for entry in folders}
    if sorted(by_expression) != list(EXPRESSIONS) or len(by_expression) != len(folders):
        found = ", ".join(entry.name for entry in folders) or "none"
        raise SourceError(f"{folder} should have the folders {', '.join(EXPRESSIONS)}; found {found}")
    return by_expression


def check_outside(output: Path, layout: Layout) -> None:
    """Check that a run does not write among the pictures: its folder would count as a class.

    Raises:
        OutputError: The run would write among them.
    """
    for split in (layout.training, layout.validation):
        if resolved(output).is_relative_to(resolved(split)):
            raise OutputError(
                f"can't write into {output}: the pictures are in {split}; choose another --output"
            )


def check_run_folder(output: Path, *, resume: bool, overwrite: bool) -> None:
    """Check that a run can write into `output`, and make the folder if it is missing.

    Raises:
        OutputError: The folder can't be written, or holds the files of a run that is to be neither resumed
            nor replaced.
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
    """Remove the files of an earlier run, so that nobody mistakes them for files of the new one."""
    for name in RUN_NAMES:
        (output / name).unlink(missing_ok=True)


def check_pretrained(path: Path) -> None:
    """Check that the file of `--pretrained` exists and can be opened.

    Raises:
        WeightsError: It does not, or can't.
    """
    if not is_file(path, WeightsError):
        raise WeightsError(f"no weights file at {path}; --pretrained takes imagenet, none or a file")
    try:
        path.open("rb").close()
    except OSError as error:
        raise cannot_read(path, error, WeightsError) from error


def check_resumable(output: Path) -> None:
    """Check that a folder holds the state of a run.

    Raises:
        UsageError: It does not.
        OutputError: The system can't look into the folder.
    """
    if not is_file(output / STATE_NAME, OutputError):
        raise UsageError(f"nothing to resume in {output}: no {STATE_NAME}; start without --resume")


def beside(folder: Path, name: str) -> Path:
    """Return the path of a file or folder in the folder above `folder`, which may be `.`."""
    return Path(os.path.abspath(folder)).parent / name  # noqa: PTH100  # resolve would follow links


def check_votes(folder: Path, labels: str | None) -> None:
    """Check that the FER+ votes lie beside a folder if `labels` needs them.

    Raises:
        SourceError: They do not, or the system can't tell.
    """
    path = beside(folder, VOTES_NAME)
    if labels == FERPLUS and not is_file(path):
        raise SourceError(f"no FER+ votes at {path}; put them there, or use --labels {FER2013}")
