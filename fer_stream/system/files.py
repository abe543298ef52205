"""Write files in full or not at all, and tell special files from regular ones."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote

from fer_stream.errors import OutputError, ReaderGoneError, cannot_write, reason_of


def unreadable_kind(path: Path) -> str | None:
    """Return the kind of a path that is not a regular file, such as "a pipe", which may never end.

    Returns:
        None for a regular file, for a link to one, and for a path that does not exist.

    Raises:
        OSError: The path can't be examined, such as a link to itself.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISREG(mode):
        return None
    for is_kind, kind in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if is_kind(mode):
            return kind
    return "a special file"


def resolved(path: Path) -> Path:
    """Return the absolute path with links followed. Unlike `Path.resolve`, accept a link to itself."""
    return Path(os.path.realpath(path))


def relative_url(path: Path, folder: Path) -> str | None:
    """Return the relative address of a file for a page or document in a folder.

    Returns:
        None on Windows if the two are on different drives.
    """
    try:
        relative = os.path.relpath(path, folder).replace(os.sep, "/")
    except ValueError:
        return None
    # The dot keeps a name such as "a:b.mp4" from being read as a scheme.
    return quote(os.fsencode(relative if relative.startswith("../") else f"./{relative}"))


def file_identities(paths: Iterable[Path]) -> set[tuple[int, int]]:
    """Return the device and inode numbers of the files that exist. All links to a file have the same ones."""
    identities = set()
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            identities.add((status.st_dev, status.st_ino))
    return identities


@contextmanager
def temporary_beside(path: Path, suffix: str = ".part") -> Iterator[Path]:
    """Yield a path in the same folder that does not exist yet, and remove the file at the end."""
    # Not the target's name with a suffix, which may be longer than the file system allows.
    temporary = path.with_name(f".fer-stream-{os.getpid()}-{secrets.token_hex(4)}{suffix}")
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError):  # the first error matters
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it to `path` at the end.

    So the file is never half written. After a failure or a kill, the old file is still there. A kill may also
    leave the temporary file. If two processes write the same file at once, the later one wins.

    A device or a pipe can't be replaced, so it is written directly. A link stays, and its file is replaced.

    Yields:
        A path in the file's folder that does not exist yet. It is removed on failure.

    Raises:
        OSError: The file can't be renamed, or the block raised the error.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    path = resolved(path)  # as root, this also keeps /dev/stdout, which may lead to a file
    with temporary_beside(path) as temporary:
        yield temporary
        temporary.replace(path)


def replace_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, in full or not at all. The text's line ends stay as they are.

    Raises:
        OutputError: The file can't be written.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise cannot_write(path, error) from error


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write indented JSON, in full or not at all.

    Raises:
        OutputError: The file can't be written.
    """
    replace_text(path, json.dumps(content, indent=2) + "\n")


@contextmanager
def new_folders_removed(paths: Iterable[Path]) -> Iterator[Callable[[], None]]:
    """Remove the folders at and above some paths that the block made and left empty.

    Yields:
        A function that keeps the folders. Call it after success.
    """
    missing = {folder for path in paths for folder in (path, *path.parents) if not os.path.lexists(folder)}
    try:
        yield missing.clear
    finally:
        for folder in sorted(missing, key=lambda folder: -len(folder.parts)):
            with contextlib.suppress(OSError):  # it was not made, is a file, or is not empty
                folder.rmdir()


def open_new(path: Path, *, overwrite: bool) -> BinaryIO:
    """Open a new file for writing, unbuffered, so that two runs never write into the same one.

    If two runs replace the same file, the later one gets the name. The earlier one goes on writing to a file
    without a name.

    Args:
        path: The file.
        overwrite: Whether an existing file is replaced. A link, device or pipe is written through.

    Raises:
        FileExistsError: The file exists, and `overwrite` is False.
        OSError: The file can't be made.
    """
    if overwrite:
        if path.is_file() and not path.is_symlink():
            with contextlib.suppress(OSError):  # a mount point, or a file in use on Windows: emptied below
                path.unlink()
        return cast(BinaryIO, path.open("wb", buffering=0))
    return cast(BinaryIO, path.open("xb", buffering=0))


def to_standard_output(data: bytes) -> None:
    """Write to standard output and flush it.

    Raises:
        OutputError: Standard output is closed, its reader went away, or its disk is full.
    """
    stream = sys.stdout
    try:
        if stream is None:
            raise OSError(0, "there is none")
        if hasattr(stream, "buffer"):
            remaining = memoryview(data)
            # With PYTHONUNBUFFERED, a pipe may take only a part, or none if it is non-blocking.
            while remaining:
                written = stream.buffer.write(remaining)
                if written is None:
                    raise BlockingIOError(errno.EAGAIN, "it takes nothing at the moment")
                remaining = remaining[written:]
        else:
            stream.write(data.decode("utf-8"))
        stream.flush()
    except OSError as error:
        # Python flushes standard output again when it exits, and would print the error a second time.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            raise ReaderGoneError("the reader of standard output went away") from error
        if isinstance(error, BlockingIOError):  # not as its cause: `is_out_of_memory` would take it for that
            raise OutputError(
                "can't write to standard output: its reader made it non-blocking and is too slow"
            ) from None
        raise OutputError(f"can't write to standard output: {reason_of(error)}") from error


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
