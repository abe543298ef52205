"""An archive whose run is killed, and an archive with recordings that crash or hang the decoder."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.extent import amount
from helpers.videos import write_video

pytest.importorskip("ray", reason="needs Ray: pip install '.[batch]'")
pq = pytest.importorskip("pyarrow.parquet")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
FRAMES = 12

# Every process of the run loads this: two names make the decoder crash or hang.
SITE = """
import os, signal, time
import fer_stream.batch.watchdog as watchdog
import fer_stream.sources.container as container
watchdog.STUCK_S = 4.0
opened = container.open_container
def open_container(file):
    name = os.path.basename(str(file))
    if name == "crash.mp4":
        os.write(2, b"libodd: this is the end")
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "hang.mp4":
        time.sleep(120)
    return opened(file)
container.open_container = open_container
"""


def archive(folder: Path, count: int) -> Path:
    folder.mkdir()
    for index in range(count):
        write_video(folder / f"{index:02}.mp4", range(FRAMES))
    return folder


def fer_batch(folder: Path, output: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fer_stream.batch", str(folder), "--output", str(output), "--workers", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | environment,
    )  # fmt: skip


@pytest.mark.slow
def test_a_killed_run_loses_nothing_and_the_next_one_finishes_it(tmp_path: Path, analyzer, faults) -> None:
    folder, output = archive(tmp_path / "in", amount(4, 20)), tmp_path / "out"
    seed = random.Random(3)
    for _ in range(amount(1, 50)):
        faults.tried += 1
        process = fer_batch(folder, output)
        time.sleep(seed.uniform(1, 15))
        before = {path.name: path.stat().st_mtime_ns for path in (output / "tables").glob("*.parquet")}
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert all(pq.read_metadata(output / "tables" / name).num_rows == FRAMES for name in before)
    process = fer_batch(folder, output)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    states = pq.read_table(output / "manifest.parquet").to_pylist()
    assert len(states) == len(list(folder.iterdir()))
    assert all((row["state"], row["rows"]) == ("done", FRAMES) for row in states)
    assert not [path for path in output.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize("fault", ["crash", "hang"])
@pytest.mark.slow
def test_a_decoder_that_crashes_or_hangs_takes_nothing_along(tmp_path: Path, analyzer, fault: str) -> None:
    folder, output = archive(tmp_path / "in", 2), tmp_path / "out"
    (folder / "00.mp4").rename(folder / f"{fault}.mp4")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    (tmp_path / "tmp").mkdir()
    process = fer_batch(folder, output, PYTHONPATH=path, TMPDIR=str(tmp_path / "tmp"))
    _, said = process.communicate(timeout=300)
    assert process.returncode == 3, said
    rows = {Path(row["source"]).stem: row for row in pq.read_table(output / "manifest.parquet").to_pylist()}
    assert rows["01"]["state"] == "done"
    assert rows[fault]["state"] == "failed"
    assert {"crash": "worker died", "hang": "no progress"}[fault] in rows[fault]["error"]
    assert "Traceback" not in said
    if fault == "crash":
        kept = Path(rows[fault]["error"].rpartition(" is in ")[2])
        written = "".join(path.read_text() for path in kept.iterdir())
        assert "libodd: this is the end" in written and "Fatal Python error: Segmentation fault" in written
