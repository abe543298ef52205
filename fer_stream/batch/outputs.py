"""The folder of results, on this machine or wherever fsspec writes.

    tables/NAME.parquet   videos/NAME.mp4   charts/NAME.png    one a recording, see Recording.output_name
    manifest.parquet      summary.parquet                      one row a recording
    parts/NAME/*.parquet                                       only while a recording is being done

A file is made in a local folder, copied beside its place under another name, and renamed.
"""

from __future__ import annotations

import platform
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_stream.batch.inputs import file_system, is_address, shown
from fer_stream.errors import FerStreamError, OutputError
from fer_stream.files import replacing

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

FOLDERS = {"tables": ".parquet", "videos": ".mp4", "charts": ".png"}


class Output:
    """The folder of results, the same from every worker.

    Args:
        address: An absolute path, or an address for fsspec.
        mark: Name of a file in it by which a worker knows that it is the same folder.
    """

    def __init__(self, address: str, mark: str = "") -> None:
        self.address = address
        self._mark = mark
        self._fs: AbstractFileSystem | None = None

    def __reduce__(self) -> tuple[type[Output], tuple[str, str]]:
        return Output, (self.address, self._mark)  # open connections stay here

    def place(self, *parts: str) -> str:
        """Returns where something in the folder is, as it may be shown."""
        return shown("/".join((self.address.rstrip("/"), *parts)))

    def make(self) -> None:
        """Makes the folder and those in it, and sees whether they can be written.

        Raises:
            OutputError: They can't.
        """
        with self._errors("."):
            if not is_address(self.address):
                folder = Path(self.address)
                if folder.exists() and not folder.is_dir():
                    raise OutputError(f"can't write into {folder}: it is a file; name a folder")
            for name in FOLDERS:
                self.fs.makedirs(self._path(name), exist_ok=True)
                # What a killed worker was writing; readers of tables/*.parquet may not pass it over.
                for left_over in self.names(name):
                    if left_over.startswith((".fer-stream-", ".fer-batch-")):
                        self.remove(name, left_over)

    @contextmanager
    def marked(self) -> Iterator[Output]:
        """Gives the folder as workers are to see it, see `check`."""
        mark = f".fer-batch-{secrets.token_hex(4)}"
        with self._errors(mark):
            self.fs.pipe_file(self._path(mark), b"a run of fer-batch is going on\n")
        try:
            yield Output(self.address, mark)
        finally:
            with suppress(OutputError):
                self.remove(mark)

    def check(self) -> None:
        """Sees from a worker whether this is the folder that the driver writes to.

        Raises:
            OutputError: It is another one of the same name.
        """
        if self._mark and not self.fs.exists(self._path(self._mark)):
            raise OutputError(
                f"{platform.node()} sees another {self.place()} than the machine of the command; "
                "give --output a folder that all machines share, or an address"
            )

    @contextmanager
    def writing(self, *parts: str) -> Iterator[Path]:
        """Gives a local path to write to; what is there at the end becomes the file, whole or not at all.

        Raises:
            OutputError: It can't be written.
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
                with suppress(FileNotFoundError):  # not every protocol renames onto a file
                    self.fs.rm_file(target)
                self.fs.mv(temporary, target)

    @contextmanager
    def _local(self, path: Path, parts: tuple[str, ...]) -> Iterator[Path]:
        """Gives a path beside a local one."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                named = temporary.with_name(temporary.name + path.suffix)  # formats go by the suffix
                try:
                    yield named
                    named.replace(temporary)
                finally:
                    named.unlink(missing_ok=True)
        except OSError as error:  # also of what writes to it, such as on a full disk
            raise OutputError(f"can't write {self.place(*parts)}: {error.strerror or error}") from error

    @contextmanager
    def reading(self, *parts: str) -> Iterator[Any]:
        """Opens a file.

        Raises:
            OSError: It is not there, or can't be read.
        """
        with self.fs.open(self._path(*parts), "rb") as file:
            yield file

    def names(self, *parts: str) -> set[str]:
        """Returns the names in a folder; none where there is no folder."""
        try:
            entries = self.fs.ls(self._path(*parts), detail=False, refresh=True)
        except (FileNotFoundError, NotADirectoryError):
            return set()
        except TypeError:  # file systems without a cache know no refresh
            entries = self.fs.ls(self._path(*parts), detail=False)
        return {str(entry).rstrip("/").replace("\\", "/").rpartition("/")[2] for entry in entries}

    def remove(self, *parts: str) -> None:
        """Removes a file or a folder with all that is in it, if it is there."""
        with self._errors(*parts), suppress(FileNotFoundError):
            self.fs.rm(self._path(*parts), recursive=True)

    @property
    def fs(self) -> AbstractFileSystem:
        """Fsspec's file system that the folder is in."""
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
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise OutputError(f"can't write {self.place(*parts)}: {reason}; choose another place") from error
