"""Run mutations of one thing in a separate process, and report the outcome of each.

    python fuzz_worker.py KIND MATERIAL FIRST COUNT

prints a line of JSON after each mutation. A mutation's number is its seed, so it can be repeated, and the
test that started the worker knows which one crashed it. The networks do not run, because damaged files do not
reach them. Every frame is without faces.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

# The resources that a run may use in addition to the worker's own.
MEMORY_BYTES = 3 * 2**30
EXTREMES = (b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\0\0\0\x01")


class NoFaces:
    """Replaces the analyzer."""

    crop_scale = 1.0
    device = "cpu"
    labels = "ferplus"
    unsure_below = 0.0

    def __init__(self, *_arguments: object, **_options: object) -> None:
        pass

    def analyze_frames(self, frames: Iterable, _kind: str) -> Iterator:
        from fer_stream.types import AnalyzedFrame

        return (AnalyzedFrame(frame, ()) for frame in frames)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Change a file in one to four places, mostly in headers and indexes."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        size = len(changed)
        if not size:
            break
        place = chance.randrange(size)
        near = min(size, 2048)
        place = chance.choice((place, chance.randrange(near), size - 1 - chance.randrange(near)))
        length = min(chance.choice((1, 4, 16, 256, 4096)), size - place)
        match chance.randrange(8):
            case 0:
                changed[place] ^= 1 << chance.randrange(8)
            case 1:
                changed[place : place + length] = chance.randbytes(length)
            case 2:
                changed[place : place + 4] = chance.choice(EXTREMES)
            case 3:
                del changed[place : place + length]
            case 4:
                changed[place:place] = chance.randbytes(length)
            case 5:
                changed[place:place] = changed[place : place + length]
            case 6:
                changed[place : place + length] = bytes(length)
            case 7:
                del changed[place:]
    return bytes(changed)


def said_by(arguments: list[str]) -> dict:
    """Run the command in this process. Return its exit code and its standard error, also from C code."""
    from fer_stream.command import cli

    with tempfile.TemporaryFile() as heard, Path(os.devnull).open("wb") as nowhere:
        kept = os.dup(2), os.dup(1)
        os.dup2(heard.fileno(), 2)
        os.dup2(nowhere.fileno(), 1)
        try:
            code = cli.main(arguments)
        except SystemExit as ended:  # --help and --version
            code = ended.code or 0
        finally:
            sys.stderr.flush()
            for target, number in zip((2, 1), kept, strict=True):
                os.dup2(number, target)
                os.close(number)
        heard.seek(0)
        err = heard.read().decode("utf-8", "replace")
    return {"code": code, "err": err}


def outcome(said: dict, allowed: set[int]) -> str | None:
    """Return the problem with a run's output, or None."""
    code, err = said["code"], said["err"]
    if code not in allowed:
        return f"exit code {code}: {err}"
    if "Traceback" in err or "Warning" in err or "Error:" in err or "unexpected" in err:
        return err
    if code != 0 and (err.count("\n") != 1 or not err.startswith("fer-stream: ")):
        return f"not one line: {err}"
    known = ("note ", "wrote ", "no face", "m", "")
    if code == 0 and not all(line.startswith(known) for line in err.splitlines()):
        return f"something else spoke: {err}"
    return None


def fuzz_file(material: Path, chance: random.Random, folder: Path) -> str | None:
    """Run the whole command on a mutation of a video or a picture."""
    mutant = folder / f"m{material.suffix}"
    mutant.write_bytes(mutated(material.read_bytes(), chance))
    is_image = material.suffix in (".jpg", ".png", ".webp", ".tiff", ".bmp")
    saved = folder / ("o.png" if is_image else chance.choice(("o.mp4", "o.mkv", "o.webm")))
    part = [] if is_image or chance.random() < 0.7 else ["--start", f"{chance.random():.3f}"]
    os.chdir(folder)
    said = said_by([mutant.name, "--save", str(saved), "--data", "o.csv", *part])
    return outcome(said, {0, 3, 4})


def fuzz_checkpoint(material: Path, chance: random.Random, folder: Path) -> str | None:
    """Load a mutation of a checkpoint: of the file, or of one record in an otherwise intact archive."""
    from fer_stream.errors import WeightsError
    from fer_stream.recognition.weights import check_weights_file, load_checkpoint

    mutant = folder / "w.pt"
    if chance.random() < 0.3:
        mutant.write_bytes(mutated(material.read_bytes(), chance))
    else:
        with zipfile.ZipFile(material) as whole, zipfile.ZipFile(mutant, "w") as archive:
            names = whole.namelist()
            hit = next(name for name in names if name.endswith("data.pkl"))
            hit = chance.choice((hit, hit, hit, chance.choice(names)))
            for name in names:
                data = whole.read(name)
                archive.writestr(name, mutated(data, chance) if name == hit else data)
    for read in (check_weights_file, load_checkpoint):
        try:
            read(mutant)
        except WeightsError as error:
            if "\n" in str(error) or len(str(error)) > 1000:
                return f"not one line: {error!r}"
    return None


WORDS = """0 1 -1 00 1.5 .5 5. 1e3 1e400 nan inf -inf 1:30 0:0:0.1 1:60 60:00 :: 1:2:3:4 +1 0x10 1_0 ٣ ² ½ 1,5
99999999999999999999 '' a.csv a.jsonl a.parquet A.CSV a.csv.parquet .csv . .. - -- a b.xlsx -.csv a\\n.csv
~.csv $HOME.csv %s.csv 日.csv \\udc80.csv auto cpu cuda:0 cuda:x gpu change never""".split()  # noqa: SIM905
OPTIONS = (
    *("--start", "--end", "--smooth", "--batch", "--min-face", "--scan-every", "--stills-every", "--data"),
    *("--stills", "--stills-on", "--device", "--data", "--start", "--end", "--crops", "--camera-x"),
)
FLAGS = ("--mirror", "--overwrite", "--quiet", "--version", "--help", "--no-show", "--nonsense", "extra")


def fuzz_options(material: Path, chance: random.Random, folder: Path) -> str | None:
    """Run the command with random values for its options."""
    os.chdir(folder)
    arguments = [str(material)]
    for _ in range(chance.choice((1, 1, 2, 3))):
        word = chance.choice(WORDS).encode().decode("unicode_escape") if chance.random() < 0.5 else None
        if word is None:
            letters = "0123456789:.-+eE_ ainf,日٣\u200b\n"
            word = "".join(chance.choices(letters, k=chance.randrange(0, 10)))
        if chance.random() < 0.15:
            arguments.append(chance.choice(FLAGS))
        else:
            arguments.append(f"{chance.choice(OPTIONS)}={word}")
    return outcome(said_by(arguments), {0, 2, 3, 4})


def fuzz_time(_material: Path, chance: random.Random, _folder: Path) -> str | None:
    """Parse a hundred time expressions. Each is read, or refused in one line."""
    from fer_stream.errors import UsageError
    from fer_stream.sources.time_text import format_time, parse_time

    for _ in range(100):
        text = mutated(chance.choice(("1:30", "01:02:03.250", "12.5", "90", ".5")).encode(), chance)
        try:
            seconds = parse_time(text.decode("utf-8", "surrogateescape")[:1000])
        except UsageError:
            continue
        if not 0 <= seconds < float("inf"):
            return f"{text!r} is {seconds}"
        if abs(parse_time(format_time(seconds)) - seconds) > 0.0006 + seconds * 1e-12:
            return f"{text!r} is {seconds}, shown as {format_time(seconds)}"
    return None


KINDS: dict[str, Callable[[Path, random.Random, Path], str | None]] = {
    "file": fuzz_file,
    "checkpoint": fuzz_checkpoint,
    "options": fuzz_options,
    "time": fuzz_time,
}


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    kind, material, first, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    if kind == "checkpoint":
        import torch

        torch.set_num_threads(1)
    elif kind != "time":
        import fer_stream.analyzer
        import fer_stream.pipeline
        import fer_stream.sources.video
        from fer_stream.sinks import TableSink  # noqa: F401

        fer_stream.analyzer.Analyzer = NoFaces  # type: ignore[assignment,misc]
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = peak_bytes()
    home = Path.cwd()
    for number in range(first, first + count):
        folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=home))
        began_s = time.monotonic()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                wrong = KINDS[kind](material, random.Random(f"{kind} {material.name} {number}"), folder)
        except BaseException as error:  # a user would get a traceback
            wrong = f"{type(error).__name__}: {error}"
            import traceback

            wrong += "\n" + traceback.format_exc()
        took_s = time.monotonic() - began_s
        os.chdir(home)
        shutil.rmtree(folder, ignore_errors=True)
        said = {"ended": number, "wrong": wrong, "took_s": took_s, "memory": peak_bytes() - before}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
