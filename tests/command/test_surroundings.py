"""Environment variables, settings files and folders around a run."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest
from helpers.command import posix, start
from helpers.paths import ROOT, SAMPLE


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


def test_a_terminal_size_of_0_in_the_environment_hides_nothing(tmp_path):
    environment = {**os.environ, "COLUMNS": "0", "LINES": "0"}
    process = start((SAMPLE, "--end", "0.1", "--data", "o.csv"), cwd=tmp_path, env=environment)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0 and SAMPLE.name in err and "wrote o.csv" in err


@posix
def test_a_folder_that_is_gone_is_one_line(tmp_path):
    process = start((SAMPLE, "--data", "o.csv"), cwd=tmp_path, preexec_fn=tmp_path.rmdir)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert err == "fer-stream: the current folder was removed; change to another one\n"


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


@pytest.mark.parametrize(
    ("module", "options"),
    [("starlette", ("--serve", "0")), ("pyarrow", ("--data", "o.parquet"))],
)
@pytest.mark.parametrize(
    "error", ["ImportError('half of it')", "RuntimeError('half of it')", "OSError(5, 'lost')"]
)
def test_an_extra_that_is_installed_but_broken_is_one_line(tmp_path, module, options, error):
    (tmp_path / "site" / module).mkdir(parents=True)
    (tmp_path / "site" / module / "__init__.py").write_text(f"raise {error}\n")
    path = os.pathsep.join([str(tmp_path / "site"), str(ROOT)])
    process = start((SAMPLE, "--end", "0.1", *options), cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and err.count("\n") == 1
    assert f"{module} is installed but can't be loaded" in err


@posix
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_that_nobody_can_read_is_an_error(option):
    line = f"{shlex.quote(sys.executable)} -m fer_stream {option} >/dev/full"
    done = subprocess.run(["sh", "-c", line], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 4 and done.stderr.count("\n") == 1 and "standard output" in done.stderr
