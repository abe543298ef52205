"""Files from strangers: weights that try to run code, and videos that refer to other files."""

from __future__ import annotations

import contextlib
import http.server
import os
import pickle
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
import torch
from helpers.checkpoints import refused
from helpers.command import files_below
from helpers.paths import ROOT, SAMPLE
from helpers.videos import write_video

from fer_stream.recognition.weights import load_checkpoint


def archive(path: Path, pickled: bytes, records: dict[str, bytes] | None = None) -> Path:
    """Write a file as `torch.save` does, but with a given pickle."""
    with zipfile.ZipFile(path, "w") as out:
        for name, data in {
            "data.pkl": pickled,
            "version": b"3\n",
            "byteorder": b"little",
            **(records or {}),
        }.items():
            out.writestr(f"archive/{name}", data)
    return path


class Runs:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def call(name: bytes, argument: int) -> bytes:
    """Return a pickle that calls a module's function with a number."""
    return b"\x80\x02c" + name + b"\n\x8a\x08" + argument.to_bytes(8, "little") + b"\x85R."


def tensor(count: int, key: str = "0", stride: int = 1, shape: int | None = None) -> bytes:
    """Return a pickle of {"state_dict": {"w": a tensor}} whose storage claims to hold that many numbers."""

    def number(value: int) -> bytes:
        return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    storage = (
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + number(count) + b"tQ"
    )
    size = number(count if shape is None else shape)
    made = (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + number(0)
        + size
        + b"\x85"
        + number(stride)
        + b"\x85"
    )
    made += b"\x89ccollections\nOrderedDict\n)RtR"
    return b"\x80\x02}" + text("state_dict") + b"}" + text("w") + made + b"ss."


HOSTILE = {
    "a list of a hundred gigabytes": call(b"builtins\nbytearray", 10**11),
    "a tensor of a hundred gigabytes": call(b"torch\nTensor", 10**11),
    "a storage of a hundred gigabytes": call(b"torch\nFloatStorage", 10**11),
    "a storage larger than its record": tensor(10**9),
    "a storage that is not there": tensor(4, key="7"),
    "a storage of another file": tensor(4, key="../../../etc/passwd"),
    "a storage of less than nothing": tensor(-4),
    "a place in memory far away": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "a text longer than the file": b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"a.",
    "bytes longer than the file": b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"a.",
    "a function by two names": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "an instance": b"\x80\x02(cos\nsystem\no.",
    "an extension": b"\x80\x02\x82\x01.",
    "a module of Python": call(b"importlib\nimport_module", 0),
    "a function of torch": call(b"torch.hub\nload", 0),
    "a persistent name that is none": b"\x80\x02NQ.",
    "another persistent thing": b"\x80\x02(X\x05\0\0\0othertQ.",
    "no end": b"\x80\x02}",
    "nothing": b"",
    "noise": bytes(range(256)),
}


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX to bound the memory")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_one_line_and_no_memory(tmp_path, name):
    import resource

    path = archive(tmp_path / "w.pt", HOSTILE[name], {"data/0": bytes(16)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "can't be used as weights" in refused(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000 * (1024 if sys.platform == "darwin" else 1)


DEEP = 200_000


@pytest.mark.robustness(faults=3)
def test_deep_nesting_is_one_line(tmp_path):
    lists = b"]" * DEEP + b"a" * (DEEP - 1)
    fields = b"\x80\x02}X\x0a\0\0\0state_dict}sX\x07\0\0\0classes" + lists + b"s."
    pickles = (b"\x80\x02N" + b"\x85" * DEEP + b".", b"\x80\x02" + lists + b".", fields)
    paths = [archive(tmp_path / f"w{number}.pt", pickled) for number, pickled in enumerate(pickles)]
    # In a process of its own, which an overflowing stack would end.
    code = (
        "import sys, pathlib, fer_stream.recognition.weights as weights\n"
        "for name in sys.argv[1:]:\n"
        "    try: weights.load_checkpoint(pathlib.Path(name))\n"
        "    except weights.WeightsError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.count("\n") == 3, done.stderr


@pytest.mark.robustness(faults=2)
def test_a_function_that_torch_would_call_is_refused_by_us(tmp_path, content):
    """PyTorch's `weights_only=True` would call these. The test shows when that changes."""
    assert torch.load(
        archive(tmp_path / "a.pt", call(b"builtins\nbytearray", 5)), weights_only=True
    ) == bytes(5)
    torch.save({**content, "recipe": Runs(tmp_path / "ran")}, tmp_path / "w.pt")
    assert "more than weights" in refused(tmp_path / "w.pt")
    (tmp_path / "w.pt").write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    refused(tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.robustness(faults=2)
def test_a_view_that_claims_gigabytes_is_refused_before_it_is_used(tmp_path, content):
    for view in (torch.zeros(1).expand(10**10), torch.zeros(4).as_strided((2**20, 2**20), (0, 0))):
        torch.save({**content, "state_dict": {"w": view}}, tmp_path / "w.pt")
        assert "too large" in refused(tmp_path / "w.pt")


@pytest.mark.robustness(faults=7)
def test_archives_that_are_not_what_they_seem(tmp_path, content):
    torch.save(content, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:  # 300 kB that unpack to 300 MB
        out.writestr("archive/data.pkl", bytes(300 * 2**20))
    assert path.stat().st_size < 10**6 and "unpacks to 300 MB" in refused(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("archive/data.pkl", bytes(3 * 2**20))
    assert "more tensors than a network has" in refused(path)
    place = whole.rindex(b"PK\x06\x07") + 16  # the number of disks that the archive is on
    path.write_bytes(whole[:place] + b"\x09" + whole[place + 1 :])
    assert "it is damaged" in refused(path)
    with path.open("wb") as out:  # sparse: takes no space
        out.truncate(2**33)
    assert "8192 MB" in refused(path)
    # Two archives in one file: whichever is read, it is checked.
    bad = archive(tmp_path / "bad.pt", call(b"builtins\nbytearray", 10**11)).read_bytes()
    path.write_bytes(whole + bad)
    assert "more than weights" in refused(path)
    path.write_bytes(bad + whole)
    assert load_checkpoint(path).state_dict.keys() == content["state_dict"].keys()
    with zipfile.ZipFile(path, "w") as out:
        for number in range(70_000):
            out.writestr(f"archive/{number}", b"")
    refused(path)


def test_weights_of_a_stranger_end_the_command_with_5(fer, no_network, tmp_path):

    path = archive(tmp_path / "w.pt", call(b"builtins\nbytearray", 10**11))
    said = fer(SAMPLE, "--weights", path, "--data", "o.csv")
    assert said.code == 5 and "w.pt" in said.line
    assert files_below(Path.cwd()) == set()


# Videos that name other files.


@pytest.fixture
def secret(tmp_path) -> Path:
    return write_video(tmp_path / "secret.ts", range(10))


@contextlib.contextmanager
def server(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder on loopback. Yield its address and the requested paths."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, directory=str(folder), **options)

        def log_message(self, *_arguments):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_address[1]}", asked
        finally:
            running.shutdown()
            thread.join()


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{0}\n#EXT-X-ENDLIST\n"
NAMING = {
    "HLS": ("a.m3u8", HLS),
    "HLS by an address": ("a.m3u8", HLS.replace("{0}", "file://{0}")),
    "HLS from a network": ("a.m3u8", HLS.replace("{0}", "{1}/secret.ts")),
    "HLS that looks like a video": ("a.mp4", HLS),
    "a script": ("a.mp4", "ffconcat version 1.0\nfile {2}\n"),
    "a script for the whole disk": ("a.ffconcat", "ffconcat version 1.0\nfile {0}\n"),
    "a session description": ("a.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
                              "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"),
    "DASH": ("a.mpd", '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
             '<AdaptationSet mimeType="video/mp2t"><Representation id="1" bandwidth="1">'
             "<BaseURL>{0}</BaseURL><SegmentBase/></Representation></AdaptationSet></Period></MPD>"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMING)
def test_a_file_that_names_others_is_refused(fer, loaded, tmp_path, secret, name):
    file_name, text = NAMING[name]
    with server(tmp_path) as (address, asked):
        (tmp_path / file_name).write_text(text.format(secret, address, secret.name))
        said = fer(tmp_path / file_name, "--data", "o.csv")
    assert said.code == 3 and "is a list of other files or addresses" in said.line
    assert asked == []


@pytest.mark.robustness(faults=0)
def test_ffmpeg_would_read_them(tmp_path, secret):
    """Prove that the test above tests something."""
    (tmp_path / "a.m3u8").write_text(HLS.format(secret))
    with av.open(str(tmp_path / "a.m3u8")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 10


@pytest.mark.skipif(sys.platform != "linux", reason="needs strace")
def test_no_other_file_is_opened_and_no_network(command, failing_calls, tmp_path, secret):
    (tmp_path / "a.mp4").write_text(HLS.format(secret))
    trace = tmp_path / "calls.txt"
    said = command(
        tmp_path / "a.mp4", "--data", tmp_path / "o.csv",
        inside=("strace", "-f", "-qq", "-o", trace, "-e", "trace=open,openat,connect,execve"),
    )  # fmt: skip
    calls = trace.read_text()
    assert said.code == 3 and str(tmp_path / "a.mp4") in calls
    assert secret.name not in calls and "AF_INET" not in calls
    started = [call for call in calls.splitlines() if "execve(" in call and call.endswith(" = 0")]
    others = [call for call in started[1:] if '["tail", "-n", "40"]' not in call]  # it holds native messages
    assert not others, "it started another program"


PROTOCOLS = (
    *("concat:{0}|{0}", "file:{0}", "crypto:{0}", "async:{0}", "subfile,,start,0,end,9,,:{0}"),
    *("data:video/mp2t;base64,AAAA", "pipe:0", "lavfi:testsrc", "/dev/null"),
)


@pytest.mark.parametrize("spec", PROTOCOLS)
def test_a_protocol_of_ffmpegs_is_only_a_name(fer, loaded, secret, spec):
    said = fer(spec.format(secret), "--data", "o.csv")
    assert said.code == 3 and not Path("o.csv").exists()
    assert said.line


def test_a_stream_from_the_network_reads_no_local_file(fer, loaded, tmp_path, secret):
    """A playlist from an address may name other addresses, as they all do, but no file of this machine."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "a.m3u8").write_text(HLS.format(f"file://{secret}"))
    with server(served) as (address, asked):
        said = fer(f"{address}/a.m3u8", "--no-show", "--data", "o.csv")
    assert any("a.m3u8" in path for path in asked)
    assert said.code == 3 and said.line
    assert not Path("o.csv").exists()


@pytest.mark.robustness(faults=4)
def test_addresses_reach_no_shell(fer, loaded, tmp_path):
    for address in (
        "http://127.0.0.1:1/$(touch x)",
        "rtsp://127.0.0.1:1/;touch x",
        "rtsp://`touch x`/",
        "http://127.0.0.1:1/|touch x",
    ):
        said = fer(address, "--no-show")
        assert said.code == 3 and said.line
    assert files_below(Path.cwd()) == set()


@pytest.mark.robustness(faults=0)
def test_no_module_starts_a_shell_or_evaluates_text():
    """Fail if somebody adds such a call."""
    words = ("os.system", "os.popen", "shell=True", "eval(", "exec(", "pickle.load", "__import__")
    for folder in ("fer_stream", "train"):
        for path in (ROOT / folder).rglob("*.py"):
            code = path.read_text(encoding="utf-8").replace(".eval()", "")
            assert not [word for word in words if word in code], path
            # Nothing of the user's is on the lines of these programs.
            assert "subprocess" not in code or path.name in ("display.py", "native_messages.py"), path
