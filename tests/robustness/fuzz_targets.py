"""Readers of untrusted bytes, for coverage-guided fuzzing with atheris. The test suite replays a corpus.

    pip install atheris
    PYTHONPATH=tests python tests/robustness/fuzz_targets.py weights FOLDER [-max_total_time=900 ...]

fuzzes one of `TARGETS` and collects inputs in a folder, which it begins with. Copy `tests/data/fuzz/weights`
there first. libFuzzer's options follow. An input that fails is left in the current folder as `crash-...`;
add it to `tests/data/fuzz` when it is fixed. Without atheris, `TARGETS["weights"](data)` tries one input.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECRET = "S3CR3T"
LONGEST_MESSAGE = 1500


def try_weights(data: bytes) -> None:
    """Read a checkpoint. The first byte says whether the rest is the file, or the pickle in a whole file."""
    from fer_stream.errors import WeightsError
    from fer_stream.recognition.weights import check_weights_file, load_checkpoint

    content = data[1:]
    if data[:1] != b"f":
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, record in {
                "data.pkl": content, "byteorder": b"little", "version": b"3\n", "data/0": bytes(16),
            }.items():  # fmt: skip
                archive.writestr(f"archive/{name}", record)
        content = file.getvalue()
    with tempfile.NamedTemporaryFile(suffix=".pt") as written:
        written.write(content)
        written.flush()
        path = Path(written.name)
        reads: list[Callable[[], Any]] = [
            lambda: check_weights_file(path),
            lambda: load_checkpoint(path, any_architecture=True).network_arrays(),
        ]
        for read in reads:
            try:
                read()
            except WeightsError as error:
                check_line(str(error))


def try_times(data: bytes) -> None:
    """Read a time expression."""
    from fer_stream.errors import UsageError
    from fer_stream.sources.time_text import format_time, parse_time

    text = data.decode("utf-8", "surrogateescape")
    try:
        seconds = parse_time(text)
    except UsageError:
        return
    assert 0 <= seconds < float("inf")
    assert abs(parse_time(format_time(seconds)) - seconds) <= 0.0006 + seconds * 1e-12


def try_addresses(data: bytes) -> None:
    """Clean an address that is made of a user, password, host, path, query and fragment, one on each line."""
    from fer_stream.errors import one_line
    from fer_stream.sources.addresses import (
        has_scheme,
        is_network_address,
        with_lower_scheme,
        without_password,
        without_passwords,
    )

    text = data.decode("utf-8", "surrogateescape")
    for read in (has_scheme, is_network_address, with_lower_scheme, without_password, without_passwords):
        read(text)
    user, password, host, path, query, fragment = (text.split("\n") + [""] * 6)[:6]
    user = "".join(letter for letter in user if letter not in "/?#:@")  # otherwise it is not a user
    if "@" in password:  # what follows it is a host, unless it is a whole password
        password = "".join(letter for letter in password if letter not in "/?#")
    place = (
        f"rtsp://{user}:{password[:3]}{SECRET}{password[3:]}@{host}/{path}?{query}{SECRET}#{fragment}{SECRET}"
    )
    assert SECRET not in without_password(place), place
    if not any(letter.isspace() for letter in place):
        said = one_line(without_passwords(f"{place} can't be opened"))
        assert SECRET not in said, place


def try_manifest(data: bytes) -> None:
    """Read a manifest. The first byte says whether the rest is the file, or JSON of a record for it."""
    from fer_stream.batch.manifest import MANIFEST, Record, read_manifest, write_manifest
    from fer_stream.batch.output_folder import Output
    from fer_stream.batch.settings import Settings

    with tempfile.TemporaryDirectory() as folder:
        output = Output(folder)
        if data[:1] == b"f":
            Path(folder, MANIFEST).write_bytes(data[1:])
            records, lines = read_manifest(output)
        else:
            try:
                values = json.loads(data[1:])
            except (ValueError, RecursionError):
                return
            record = Record.of(values)
            records, lines = {} if record is None else {record.output_name: record}, []
        assert len(lines) <= 1
        for line in lines:
            check_line(line)
        write_manifest(output, records.values(), Settings("hash"))
        again, lines = read_manifest(output)
        assert not lines or "" in records, lines
        assert again.keys() == records.keys() - {""}


def check_line(message: str) -> None:
    """Check that a message is one line of bounded length."""
    assert "\n" not in message, message
    assert len(message) < LONGEST_MESSAGE, f"{len(message)} characters: {message[:200]}"


TARGETS: dict[str, Callable[[bytes], None]] = {
    "weights": try_weights,
    "times": try_times,
    "addresses": try_addresses,
    "manifest": try_manifest,
}


def main() -> None:
    """Fuzz a target."""
    import atheris

    name = sys.argv.pop(1)
    modules = ["fer_stream", "pickletools", "zipfile", "json"]
    with atheris.instrument_imports(include=modules), contextlib.suppress(ImportError):
        import fer_stream.batch.manifest
        import fer_stream.recognition.weights
        import fer_stream.sources.addresses
        import fer_stream.sources.time_text  # noqa: F401
    for hook in ("RegEx", "str"):
        atheris.enabled_hooks.add(hook)
    atheris.Setup(sys.argv, atheris.instrument_func(TARGETS[name]))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
