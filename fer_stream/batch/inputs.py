"""Find recordings: paths, globs, folders, lists of them, and addresses that fsspec opens."""

from __future__ import annotations

import glob
import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from fer_stream.batch.addresses import file_system, is_address, local_path, shown, without_passwords
from fer_stream.errors import FerStreamError, SourceError, UsageError, one_line, reason_of
from fer_stream.sources.base import RECORDING_EXTENSIONS
from fer_stream.system.files import resolved

ROOM_LEFT_BYTES = 2**30  # stays free on the disk that holds the copy of a recording
MAX_LIST_BYTES = 64 * 2**20  # of --from-file: a million names

_GLOB = re.compile(r"[*?[]")
_ANNOTATED = re.compile(r".*-[0-9a-f]{16}\.mp4", re.DOTALL)  # the names in videos/; see Recording.output_name
# Names that file systems use for values that change with the file.
_STAMPS = ("mtime", "etag", "ETag", "LastModified", "last_modified", "updated", "modified", "md5Hash")


@dataclass(frozen=True)
class Recording:
    """A recording of the archive.

    Attributes:
        address: Absolute path, or address for fsspec.
        name: The address without user, password and other secrets. It is shown and written in the tables.
        size_bytes: Size of the file; 0 if unknown.
        stamp: Hash of the size, time and tag of the file, which changes with the file.
    """

    address: str
    name: str
    size_bytes: int
    stamp: str

    @property
    def output_name(self) -> str:
        """Name of its outputs, without extension. No two recordings share it.

        It follows from the address, because two recordings may have the same name. A new password does not
        change it.
        """
        stem = re.sub(r"[^\w.-]+", "_", PurePosixPath(self.name.replace("\\", "/")).stem)[:60]
        identity = without_passwords(self.address).encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(identity).hexdigest()
        return f"{stem or 'recording'}-{digest[:16]}"


def read_list(path: str) -> list[str]:
    """Read the names in a list, one per line. Empty lines and lines that start with # are ignored.

    Args:
        path: A file or an address; `-` is standard input.

    Raises:
        SourceError: The list can't be read.
        UsageError: fsspec does not know the file system, or its package is not installed.
    """
    try:
        if path == "-":
            if sys.stdin is None:
                raise SourceError("standard input is closed; give --from-file a file")
            content = sys.stdin.read(MAX_LIST_BYTES + 1).removeprefix("\ufeff")
        elif is_address(path):
            fs, inner = file_system(path)
            content = fs.cat_file(inner, end=MAX_LIST_BYTES + 1).decode("utf-8-sig")
        else:
            with Path(path).open("rb") as file:  # it may be a pipe that never ends
                content = file.read(MAX_LIST_BYTES + 1).decode("utf-8-sig", errors="surrogateescape")
    except FerStreamError:
        raise
    except UnicodeDecodeError as error:
        raise SourceError(f"{shown(path)} is not text in UTF-8") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    except Exception as error:  # the file systems of fsspec raise many types
        raise SourceError(f"{shown(path)} can't be read: {one_line(error)}") from error
    if len(content) > MAX_LIST_BYTES:
        raise SourceError(f"{shown(path)} is longer than {MAX_LIST_BYTES // 2**20} MiB; give shorter lists")
    if "\0" in content:
        raise SourceError(f"{shown(path)} is a binary file, not a list of recordings")
    lines = (line.strip() for line in content.split("\n"))
    return [line for line in lines if line and not line.startswith("#")]


class _MissingError(SourceError):
    """There is no such file or folder."""


def find_recordings(
    specs: Sequence[str], *, listed: Sequence[str] = (), leave_out: str | None = None
) -> list[Recording]:
    """Find the recordings for some paths, globs, folders and addresses.

    Args:
        specs: Paths, globs, folders and addresses, as given by the user.
        listed: More of them, from a list. A missing file among them is returned; its analysis will fail.
        leave_out: The folder of results. The annotated videos that earlier runs wrote to it are left out.

    Returns:
        Each recording once, in the order given; those of a folder or glob ordered by name.

    Raises:
        SourceError: An entry matches no recording or can't be read, only missing files are listed, or only
            annotated videos are found.
        UsageError: fsspec does not know the file system.
    """
    found: dict[str, Recording] = {}
    missing: dict[str, _MissingError] = {}
    for index, spec in enumerate(map(local_path, (*specs, *listed))):
        if not spec:
            raise UsageError("a recording's name is empty: give a file, a folder, a glob or an address")
        try:
            recordings = list(_remote(spec) if is_address(spec) else _local(spec))
        except _MissingError as error:
            if index < len(specs):
                raise
            recordings = [_missing(spec)]
            missing[recordings[0].output_name] = error
        except FerStreamError:
            raise
        except Exception as error:  # every file system has errors of its own
            raise _unreadable(spec, error) from error
        if not recordings:
            raise SourceError(f"{shown(spec)} holds no recording; give the file itself")
        found.update((recording.output_name, recording) for recording in recordings)
    if leave_out is not None:
        found = {name: each for name, each in found.items() if not _is_annotated(each, leave_out)}
        if not found:
            raise SourceError(
                f"only annotated videos of earlier runs were found; they are in {shown(leave_out)}"
            )
    if missing and missing.keys() == found.keys():
        raise next(iter(missing.values()))
    return _with_different_names(list(found.values()))


def _is_annotated(recording: Recording, output: str) -> bool:
    """Return whether a recording is an annotated video that an earlier run wrote to the folder of results.

    Judge by its name, because users may keep other recordings in their own folder `videos`.
    """
    if not _ANNOTATED.fullmatch(recording.name):
        return False
    if is_address(recording.address):
        return recording.name.rpartition("/")[0] == f"{shown(output).rstrip('/')}/videos"
    return resolved(Path(recording.address).parent) == resolved(Path(output, "videos"))


def _with_different_names(recordings: list[Recording]) -> list[Recording]:
    """Add numbers to equal names, such as those of cameras that differ only in the query of their address."""
    counts = Counter(recording.name for recording in recordings)
    numbers: Counter[str] = Counter()
    named = []
    for recording in recordings:
        if counts[recording.name] > 1:
            numbers[recording.name] += 1
            recording = replace(recording, name=f"{recording.name} ({numbers[recording.name]})")
        named.append(recording)
    return named


@contextmanager
def local_copy(recording: Recording) -> Iterator[Path]:
    """Yield a local path of a recording: its own, or that of a temporary copy.

    Raises:
        SourceError: The recording is missing or can't be read, or there is no room for the copy.
    """
    if not is_address(recording.address):
        path = Path(recording.address)
        if not os.path.lexists(path):
            raise SourceError(
                f"{recording.name}: no such file on {platform.node()}; "
                "in a cluster, every machine must see it under this path"
            )
        yield path
        return
    # The copy keeps the recording's name, because errors show it and formats may depend on it.
    with tempfile.TemporaryDirectory(prefix="fer-batch-", ignore_cleanup_errors=True) as folder:
        name = re.sub(r"[^\w.-]+", "_", PurePosixPath(recording.name).name)[-100:]
        path = Path(folder) / (name or "recording")
        free_bytes = shutil.disk_usage(folder).free
        if recording.size_bytes + ROOM_LEFT_BYTES > free_bytes:
            raise SourceError(
                f"{recording.name} takes {recording.size_bytes / 2**30:.1f} GiB, and {tempfile.gettempdir()} "
                f"has {free_bytes / 2**30:.1f} left; set TMPDIR to a folder on a larger disk"
            )
        try:
            fs, inner = file_system(recording.address)
            fs.get_file(inner, str(path))
        except FerStreamError:
            raise
        except Exception as error:
            raise _unreadable(recording.address, error) from error
        yield path


def _local(spec: str) -> Iterator[Recording]:
    """Yield the recordings of a path, folder or glob."""
    path = Path(spec).expanduser()
    if path.is_dir():
        yield from _in_folder(path.absolute())
    elif path.exists():
        yield _recording_at(path)
    elif _GLOB.search(spec):
        for name in sorted(glob.glob(str(path), recursive=True)):  # noqa: PTH207  # any pattern, absolute too
            if not Path(name).is_dir():
                yield _recording_at(Path(name))
    else:
        raise _MissingError(f"{spec}: no such file or folder")


def _in_folder(folder: Path) -> Iterator[Recording]:
    """Yield the recordings of a folder, then those of the folders that it links to.

    No folder is searched twice, and no link to a folder above it is followed.
    """

    def fail(error: OSError) -> None:
        raise error

    waiting, searched = [folder], set()
    for start in waiting:  # grows
        for parent, folders, files in os.walk(start, onerror=fail):
            place = resolved(Path(parent))
            if place in searched:
                folders.clear()
                continue
            searched.add(place)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            links = [path for name in folders if (path := Path(parent, name)).is_symlink()]
            waiting += [link for link in links if not place.is_relative_to(resolved(link))]
            for name in sorted(files):
                if Path(name).suffix.lower() in RECORDING_EXTENSIONS and not name.startswith("."):
                    with suppress(FileNotFoundError):  # removed in the meantime
                        yield _recording_at(Path(parent, name))


def _recording_at(path: Path) -> Recording:
    path = Path(os.path.abspath(path))  # noqa: PTH100  # keeps the names of links but resolves ".."
    try:
        stat = path.stat()
        size_bytes, marks = stat.st_size, [stat.st_mtime_ns]
    except OSError as error:  # such as a link to nothing; its analysis will report it, and the others go on
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            raise
        size_bytes, marks = 0, []
    # In a name that is not valid Unicode, odd bytes are written as escapes, as in the table.
    name = _utf8(str(path)).decode()
    return Recording(str(path), name, size_bytes, _stamp(size_bytes, marks))


def _missing(spec: str) -> Recording:
    """Return a recording for a missing file. Its analysis will fail."""
    address = spec if is_address(spec) else os.path.abspath(Path(spec).expanduser())  # noqa: PTH100
    return Recording(address, _utf8(shown(address)).decode(), 0, _stamp(0, []))


def _remote(spec: str) -> Iterator[Recording]:
    fs, path = file_system(spec)
    if "::" in spec:
        entries = [fs.info(path)]
    elif _GLOB.search(path) and not fs.exists(path):
        entries = fs.glob(path, detail=True).values()
    elif fs.isdir(path):
        entries = [
            entry
            for entry in fs.find(path, detail=True).values()
            if PurePosixPath(entry["name"]).suffix.lower() in RECORDING_EXTENSIONS
        ]
    elif fs.exists(path):
        entries = [fs.info(path)]
    else:
        raise _MissingError(f"{shown(spec)}: no such file or folder")
    for entry in sorted(entries, key=lambda entry: entry["name"]):
        if entry["type"] == "file":
            yield _recording_of_entry(spec, entry)


def _recording_of_entry(spec: str, entry: dict[str, Any]) -> Recording:
    size_bytes = int(entry.get("size") or 0)
    stamp = _stamp(size_bytes, [entry[name] for name in _STAMPS if entry.get(name) is not None])
    # A chain such as zip://a.mp4::s3://bucket/b.zip can't be rebuilt from its parts.
    address = spec if "::" in spec else _address(spec, entry["name"])
    return Recording(address, shown(address), size_bytes, stamp)


def _address(spec: str, name: str) -> str:
    """Return the address of a file that a file system found under `spec`."""
    protocol, _, rest = spec.partition("://")
    if "://" in name:
        return name
    if protocol in ("sftp", "ssh", "ftp", "smb", "hdfs", "webhdfs"):  # names in these have no host
        return f"{protocol}://{rest.split('/', 1)[0]}/{name.lstrip('/')}"
    return f"{protocol}://{name.lstrip('/')}"


def _stamp(size_bytes: int, marks: Iterable[object]) -> str:
    return hashlib.sha256("\n".join(map(str, (size_bytes, *marks))).encode()).hexdigest()[:16]


def _unreadable(spec: str, error: Exception) -> SourceError:
    return SourceError(f"{shown(spec)} can't be read: {reason_of(error)}")


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
