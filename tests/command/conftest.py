"""Files to give to the command, and the files of a run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.checkpoints import save_small_checkpoint
from helpers.paths import SAMPLE


@pytest.fixture(scope="module")
def made(analyzer, tmp_path_factory) -> Path:
    """The folder with all outputs of a run over 0.5 s of the sample, and what it printed."""
    folder = tmp_path_factory.mktemp("made") / "out put"
    arguments = [
        *(SAMPLE, "--start", "1.0", "--end", "0:01.5", "--save", folder / "o.mp4"),
        *("--data", folder / "o.csv", "--chart", folder / "o.jpg", "--profile", folder / "p.json"),
        *("--stills", folder / "stills", "--stills-every", "0.2", "--crops", folder / "crops"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "fer_stream", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (folder / "said.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> dict[str, Path]:
    """Files that are not what their names say, and a few good ones."""
    folder = tmp_path_factory.mktemp("material")
    paths = {
        name: folder / name.replace("_", ".")
        for name in ("text_mp4", "text_jpg", "text_pt", "zero_mp4", "old_csv")
    }
    for path in paths.values():
        path.write_text("only text\n")
    paths["zero_mp4"].write_bytes(b"")
    paths["old_pt"] = folder / "old.pt"
    save_small_checkpoint(paths["old_pt"])
    paths |= {"empty": folder / "empty", "folder": folder / "folder", "video": folder / "video.mp4"}
    paths["empty"].mkdir()
    paths["folder"].mkdir()
    for name in ("a.jpg", "b.jpg"):
        cv2.imwrite(str(paths["folder"] / name), np.full((48, 64, 3), 90, np.uint8))
    paths["picture"] = paths["folder"] / "a.jpg"
    shutil.copy(SAMPLE, paths["video"])
    return paths
