"""Wrong input to fer-batch is one line, before anything starts."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from helpers.checkpoints import save_small_checkpoint
from helpers.live_servers import file_server

from fer_stream.batch import cli
from fer_stream.batch.estimate import Estimate
from fer_stream.batch.inputs import Recording
from fer_stream.errors import UsageError
from fer_stream.recognition.torch_files import load_torch_file
from fer_stream.recognition.weights import BUILT_IN_WEIGHTS
from fer_stream.system.files import file_hash

if TYPE_CHECKING:
    from fer_stream.batch.settings import Settings

pytest.importorskip("ray", reason="needs the extra batch: pip install '.[batch]'")
pytest.importorskip("fsspec")


def test_wrong_input_is_one_line_before_anything_starts(batch, clip, tmp_path, monkeypatch):
    monkeypatch.setattr("fer_stream.batch.cluster.connected", lambda *_: pytest.fail("Ray was started"))
    monkeypatch.setattr("fer_stream.inference.devices.require_extra", lambda *_: None)
    monkeypatch.setattr("fer_stream.inference.devices._cuda_device_count", lambda: 0)
    out = tmp_path / "out"
    (tmp_path / "file").write_text("x")
    old = tmp_path / "old.pt"
    save_small_checkpoint(old)
    (tmp_path / "part.bin").write_bytes(b"\x00\x01\xfe\n\x02")
    for code, words, arguments in (
        (2, "no recordings", ("--output", out)),
        (2, "--output", (clip,)),
        (2, "--workers", (clip, "--output", out, "--ray", "auto", "--workers", "2")),
        (2, "Ray decides", (clip, "--output", out, "--device", "cuda:1")),
        (2, "no CUDA device", (clip, "--output", out, "--device", "cuda")),
        (2, "--part must be at least 1 second", (clip, "--output", out, "--part", "0.1")),
        (2, "--output can be given only once", (clip, "--output", out, "--output", tmp_path / "other")),
        (2, "--episodes can be given only once", (clip, "--output", out, *("--episodes", "csv") * 2)),
        (2, "--gpu-share", (clip, "--output", out, "--gpu-share", "2")),
        (2, "lists no recording", ("--from-file", os.devnull, "--output", out)),
        (3, "no such file", (tmp_path / "none.mp4", "--output", out)),
        (3, "binary file", ("--from-file", tmp_path / "part.bin", "--output", out)),
        (3, "none.txt", ("--from-file", tmp_path / "none.txt", "--output", out)),
        (4, "it is a file", (clip, "--output", tmp_path / "file")),
        (2, "--labels", (clip, "--output", out, "--labels", "raf-db")),
        (2, "from 0 to 1", (clip, "--output", out, "--unsure-below", "2")),
        (5, "no FER+ layer", (clip, "--output", out, "--weights", old, "--labels", "ferplus")),
        (5, "not a PyTorch checkpoint", (clip, "--output", out, "--weights", tmp_path / "file")),
    ):
        said = batch(*arguments)
        assert (said.code, said.err.count("\n")) == (code, 1), said.err
        assert words in said.err and not out.exists()


def test_the_workers_get_the_weights_that_were_checked(batch, clip, tmp_path, monkeypatch):
    weights, loads, used = tmp_path / "mine.pt", [], {}
    shutil.copy(BUILT_IN_WEIGHTS, weights)
    expected = file_hash(weights)

    def load(path: Path) -> object:
        loads.append(path)
        return load_torch_file(path)

    @contextmanager
    def connected(*_: object) -> Iterator[object]:
        weights.write_bytes(b"a training run saves better weights while Ray starts")
        yield SimpleNamespace(has_gpus=False, put=lambda content: content)

    def estimate(_todo: object, settings: Settings, content: bytes, _cluster: object) -> None:
        used.update(of_settings=settings.weights_hash, of_content=hashlib.sha256(content).hexdigest())
        raise UsageError("stop here")

    monkeypatch.setattr("fer_stream.recognition.weights.load_torch_file", load)
    monkeypatch.setattr("fer_stream.batch.cluster.connected", connected)
    monkeypatch.setattr("fer_stream.batch.estimate.estimate", estimate)
    said = batch(clip, "--output", tmp_path / "out", "--weights", weights, "--dry-run")
    assert "stop here" in said.err
    assert used == {"of_settings": expected, "of_content": expected}
    assert loads == [weights]


def test_a_dry_run_prints_one_line_per_recording_whatever_its_name(capfd):
    names = ("a\nb\tc.mp4", "\x1b[31md  e.mp4")
    recordings = [(Recording(f"/{name}", f"/{name}", 1, ""), 2.0, 1) for name in names]
    cli._print_estimate(Estimate(recordings, 4.0, 0.0, 0.0, 1), 0)
    assert capfd.readouterr().out == "/a\ufffdb\ufffdc.mp4\t0:02\t1 part\n/\ufffd[31md  e.mp4\t0:02\t1 part\n"


def test_a_missing_extra_is_one_line_that_says_how_to_install_it(batch, clip, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    said = batch(clip, "--output", tmp_path / "out")
    assert said.code == 2 and said.err.count("\n") == 1
    advice = "in fer-stream's source folder, run: pip install '.[batch]'"
    assert said.err == f"fer-batch: this command needs ray; {advice}\n"


def test_an_address_without_a_cluster_is_one_line(batch, clip, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"127.0.0.1:{server.getsockname()[1]}"
    with file_server(tmp_path) as web_server:  # as the port of Ray's dashboard
        for address in (closed, web_server.removeprefix("http://")):
            said = batch(clip, "--output", tmp_path / "out", "--ray", address)
            assert said.code == 2
            advice = "give the address that `ray start --head` printed"
            assert said.err == f"fer-batch: no Ray cluster answers at {address}; {advice}\n"
            assert not (tmp_path / "out").exists()


def test_a_cluster_that_refuses_the_token_is_one_line(batch, clip, tmp_path, monkeypatch):
    seconds = "RAY_gcs_server_port_wait_time_s"

    def refuse(**_: object) -> None:
        for _attempt in range(int(os.environ.get(seconds, "20"))):
            os.write(2, b"gcs_client.cc:210: Authentication token is missing or incorrect\n")
        cause = RuntimeError("Traceback\nray.exceptions.AuthenticationError: InvalidAuthToken")
        raise ConnectionError("Failed to connect to Ray cluster") from cause

    monkeypatch.setattr("ray.init", refuse)
    monkeypatch.setattr("fer_stream.batch.cluster._answers", lambda _address: True)
    monkeypatch.delenv(seconds, raising=False)
    said = batch(clip, "--output", tmp_path / "out", "--ray", "head:6379")
    assert (said.code, said.err.count("\n")) == (2, 1), said.err
    assert "the Ray cluster at head:6379 asks for its token" in said.err
    assert "RAY_AUTH_MODE=token" in said.err and seconds not in os.environ
