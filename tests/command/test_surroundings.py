"""Environment variables, settings files and folders around a run."""

from __future__ import annotations

import os

from helpers.command import posix, start
from helpers.paths import SAMPLE


def test_variables_of_opencv_and_matplotlib_do_not_matter(tmp_path):
    names = ("IO_MAX_IMAGE_PIXELS", "IO_MAX_IMAGE_WIDTH", "DUMP_ERRORS", "TRACE", "ENABLE_MEMALIGN")
    variables = dict.fromkeys((f"OPENCV_{name}" for name in names), "x")
    variables |= {"OPENCV_FOR_THREADS_NUM": "x", "SOURCE_DATE_EPOCH": "junk"}
    chart = tmp_path / "o.pdf"
    process = start(
        (SAMPLE, "--end", "0.1", "--data", "-", "--chart", chart), env={**os.environ, **variables}
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and out and "Traceback" not in err
    assert chart.stat().st_size > 0


@posix
def test_a_folder_that_is_gone_is_one_line(tmp_path):
    process = start((SAMPLE, "--data", "o.csv"), cwd=tmp_path, preexec_fn=tmp_path.rmdir)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4 and err.count("\n") == 1 and "No such file" in err


def test_a_matplotlibrc_in_the_folder_is_ignored_or_one_line(tmp_path):
    (tmp_path / "matplotlibrc").write_bytes(b"text.usetex: True\n")
    process = start(
        (SAMPLE, "--end", "0.1", "--chart", "o.png"),
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "nonsense"},
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in err
    assert (tmp_path / "o.png").stat().st_size > 0
    (tmp_path / "matplotlibrc").write_bytes(b"\xff")
    process = start((SAMPLE, "--end", "0.1", "--chart", "p.png", "--data", "p.csv"), cwd=tmp_path)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4 and "matplotlibrc" in err and "Traceback" not in err
    assert (tmp_path / "p.csv").stat().st_size > 0
