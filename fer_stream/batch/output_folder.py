"""The folder of results, on this machine or wherever fsspec writes.

    tables/NAME.parquet or .csv     one per recording; see Recording.output_name
    records/NAME.json               one per CSV table; see manifest.py
    videos/NAME.mp4                 one per recording
    charts/NAME.png                 one per recording
    reports/NAME.html               one per recording
    episodes/NAME.csv, .vtt, .eaf   one per recording
    manifest.parquet                one row per recording
    summary.parquet or .csv         one row per recording
    index.html                      one row per recording; links the reports
    parts/NAME/*.parquet            only while a recording is being analyzed

At an address, a file is made in a local folder, uploaded under a temporary name, and renamed.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_stream.batch.addresses import file_system, is_address, shown
from fer_stream.errors import FerStreamError, OutputError, cannot_write, reason_of
from fer_stream.system.files import temporary_beside, unreadable_kind

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# The folders, and the suffixes that their files may have.
FOLDERS: dict[str, tuple[str, ...]] = {
    "tables": (".parquet", ".csv"),
    "videos": (".mp4",),
    "charts": (".png",),
    "reports": (".html",),
    "episodes": (".csv", ".vtt", ".eaf"),
}
# An unfinished file ends in .part, so that no reader of tables/*.parquet meets one. In these folders it ends
# in the suffix of the finished file, because its sink tells the format from it.
_NEED_SUFFIX = FOLDERS.keys() - {"tables"}
# A run refreshes its mark this often. If a mark is older than STALE_MARK_S, its run was killed.
REFRESH_MARK_S = 10.0
STALE_MARK_S = 120.0
_MARK = ".fer-batch-run-"


class Output:
    """The folder of results, the same from every worker.

    Args:
        address: An absolute path, or an address for fsspec.
        mark: Name of a file in it, by which a worker recognizes that it sees the same folder.
    """

    def __init__(self, address: str, mark: str = "") -> None:
        self.address = address
        self._mark = mark
        self._marked_s = 0.0
        self._fs: AbstractFileSystem | None = None

    def __reduce__(self) -> tuple[type[Output], tuple[str, str]]:
        return Output, (self.address, self._mark)  # without open connections

    def place(self, *parts: str) -> str:
        """Return the path of something in the folder, without secrets, for messages."""
        return shown("/".join((self.address.rstrip("/"), *parts)))

    def final_path(self, *parts: str) -> Path:
        """Return the final path of a file, relative to the output if that is an address."""
        return Path(*parts) if is_address(self.address) else Path(self.address, *parts)

    def make(self, folders: Iterable[str] = FOLDERS) -> None:
        """Make the folder and its subfolders, and check that they can be written.

        Args:
            folders: Names of the subfolders.

        Raises:
            OutputError: They can't be written.
        """
        with self._errors("."):
            if not is_address(self.address):
                folder = Path(self.address)
                if folder.exists() and not folder.is_dir():
                    raise OutputError(f"can't write into {folder}: it is a file; name a folder")
        for name in folders:
            with self._errors(name):
                self.fs.makedirs(self._path(name), exist_ok=True)

    @contextmanager
    def marked(self) -> Iterator[Output]:
        """Reserve the folder for one run, and yield it in the form that workers need; see `check`.

        Unfinished files of a killed run are removed.

        Raises:
            OutputError: Another run is writing to the folder, or it can't be written.
        """
        mark = f"{_MARK}{secrets.token_hex(4)}"
        marked = Output(self.address, mark)
        marked.refresh_mark()
        try:
            # Look after setting our own mark, so that two runs that start at once see each other.
            for other in sorted(self.names() - {mark}):
                if other.startswith(_MARK):
                    self._remove_stale(other)
            for folder in (".", "records", *FOLDERS):
                for name in self.names(folder):
                    if name.startswith((".fer-stream-", ".fer-batch-")) and not name.startswith(_MARK):
                        self.remove(folder, name)
            yield marked
        finally:
            with suppress(OutputError):
                self.remove(mark)

    def refresh_mark(self) -> None:
        """Refresh the mark of the run, if it is due.

        Raises:
            OutputError: The mark can't be written.
        """
        now_s = time.time()
        if abs(now_s - self._marked_s) < REFRESH_MARK_S:
            return
        content = {"host": platform.node(), "process": os.getpid(), "time_s": now_s}
        with self._errors(self._mark):  # written in place, so that workers always see it
            self.fs.pipe_file(self._path(self._mark), json.dumps(content).encode())
        self._marked_s = now_s

    def _read_mark(self, mark: str) -> dict[str, Any]:
        with self._errors(mark):
            raw = self.fs.cat_file(self._path(mark))
        content: dict[str, Any] = json.loads(raw)
        return content

    def _remove_stale(self, mark: str) -> None:
        """Remove the mark of a run that was killed.

        Raises:
            OutputError: That run is still alive.
        """
        try:
            content = self._read_mark(mark)
        except (OutputError, ValueError):
            time.sleep(1.0)  # another process may be writing it right now
            try:
                content = self._read_mark(mark)
            except (OutputError, ValueError):
                self.remove(mark)
                return
        age_s = abs(time.time() - content["time_s"])
        host, process = content["host"], content["process"]
        if age_s < STALE_MARK_S and not (host == platform.node() and _has_ended(process)):
            raise OutputError(
                f"another fer-batch writes to {self.place()} (process {process} on {host}); "
                "wait until it ends, or name another folder"
            )
        self.remove(mark)

    def check(self) -> None:
        """Check in a worker that this is the folder that the driver writes to.

        Raises:
            OutputError: This machine sees a different folder at the same path.
        """
        if self._mark and not self.fs.exists(self._path(self._mark)):
            raise OutputError(
                f"{platform.node()} sees a different {self.place()} from the machine that runs fer-batch; "
                "give --output a folder that all machines share, or an address"
            )

    @contextmanager
    def writing(self, *parts: str) -> Iterator[Path]:
        """Yield a local path to write to. At the end it becomes the file, in full or not at all.

        Raises:
            OutputError: The file can't be written.
        """
        if not is_address(self.address):
            with self._local(Path(self._path(*parts)), parts) as local:
                yield local
            return
        with tempfile.TemporaryDirectory(prefix="fer-batch-", ignore_cleanup_errors=True) as folder:
            local = Path(folder) / parts[-1]
            yield local
            with self._errors(*parts):
                target = self._path(*parts)
                temporary = f"{self._path(*parts[:-1], f'.fer-batch-{secrets.token_hex(4)}')}.part"
                self.fs.makedirs(self._path(*parts[:-1]), exist_ok=True)
                self.fs.put_file(str(local), temporary)
                with suppress(FileNotFoundError):  # not every protocol can rename onto a file
                    self.fs.rm_file(target)
                self.fs.mv(temporary, target)

    @contextmanager
    def _local(self, path: Path, parts: tuple[str, ...]) -> Iterator[Path]:
        """Yield a temporary path beside a local one, and rename it at the end."""
        # Errors of the block itself are not converted, because an error while reading is not one of the
        # output.
        with _writing_to(self.place(*parts)):
            path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_beside(path, path.suffix if parts[0] in _NEED_SUFFIX else ".part") as temporary:
            yield temporary
            with _writing_to(self.place(*parts)):
                temporary.replace(path)

    @contextmanager
    def reading(self, *parts: str) -> Iterator[Any]:
        """Open a file for reading.

        Raises:
            OSError: The file is missing or can't be read.
        """
        if not is_address(self.address) and (kind := unreadable_kind(Path(self._path(*parts)))):
            raise OSError(f"it is {kind}")
        with self.fs.open(self._path(*parts), "rb") as file:
            yield file

    def is_folder(self, *parts: str) -> bool:
        """Return whether a folder has this name."""
        return bool(self.fs.isdir(self._path(*parts)))

    def names(self, *parts: str) -> set[str]:
        """Return the names in a folder; empty if there is no such folder.

        Raises:
            OutputError: The folder can't be read.
        """
        return set(self.sizes(*parts))

    def sizes(self, *parts: str) -> dict[str, int]:
        """Return the size in bytes of everything in a folder, by name; empty if there is no such folder.

        Raises:
            OutputError: The folder can't be read.
        """
        try:
            try:
                entries = self.fs.ls(self._path(*parts), detail=True, refresh=True)
            except TypeError:  # file systems without a cache do not know `refresh`
                entries = self.fs.ls(self._path(*parts), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except FerStreamError:
            raise
        except Exception as error:  # every file system has errors of its own
            raise OutputError(f"can't read {self.place(*parts)}: {reason_of(error)}") from error

        def name(entry: dict[str, Any]) -> str:
            return str(entry["name"]).rstrip("/").replace("\\", "/").rpartition("/")[2]

        return {name(entry): int(entry.get("size") or 0) for entry in entries}

    def size(self, *parts: str) -> int:
        """Return the size of one file in bytes, without listing its folder.

        Raises:
            OutputError: The file can't be found.
        """
        with self._errors(*parts):
            return int(self.fs.info(self._path(*parts))["size"])

    def remove(self, *parts: str) -> None:
        """Remove a file, or a folder with its content, if it exists."""
        with self._errors(*parts), suppress(FileNotFoundError):
            self.fs.rm(self._path(*parts), recursive=True)

    @property
    def fs(self) -> AbstractFileSystem:
        """The fsspec file system of the folder."""
        if self._fs is None:
            self._fs, _ = file_system(self.address)
        return self._fs

    def _path(self, *parts: str) -> str:
        root = file_system(self.address)[1] if is_address(self.address) else self.address
        return "/".join((root.rstrip("/"), *(part for part in parts if part != ".")))

    @contextmanager
    def _errors(self, *parts: str) -> Iterator[None]:
        try:
            yield
        except FerStreamError:
            raise
        except Exception as error:  # every file system has errors of its own
            raise OutputError(f"{cannot_write(self.place(*parts), error)}; choose another place") from error


@contextmanager
def _writing_to(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise cannot_write(place, error) from error


def _has_ended(process: int) -> bool:
    """Return whether a process of this machine is known to have ended."""
    if os.name != "posix":  # elsewhere os.kill ends a process
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
