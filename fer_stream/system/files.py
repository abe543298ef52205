"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from fer_stream.errors import OutputError, ReaderGoneError


def unreadable_kind(path: Path) -> str | None:
    """Return the kind of a path that is no regular file, such as "a pipe", which may never end.

    Returns:
        None for a regular file, also behind a link, and for a path that does not exist.

    Raises:
        OSError: The path can't be looked at, such as a link to itself.
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
    """Return the absolute path with links followed; unlike `Path.resolve`, a link to itself is no error."""
    return Path(os.path.realpath(path))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` to write to, and renames it to `path` at the end.

    Nobody meets half a file, and a failure or a kill leaves what was there before; a kill may leave
    the temporary file, too. Two that write the same file at once do not meet: the later one wins.

    A device or pipe can't be renamed onto and is written directly.

    Yields:
        The path to write to. It is not there yet, in the folder of `path`, and removed on failure.

    Raises:
        OSError: It can't be renamed, or what was written inside raised it.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    # Without the target's name, which with an addition may be longer than a file system takes.
    temporary = path.with_name(f".fer-stream-{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            temporary.unlink(missing_ok=True)


def open_new(path: Path, *, overwrite: bool) -> BinaryIO:
    """Opens a file that grows while it is written, unbuffered, so that no two runs write into one.

    Of two that were both told to replace it, the later one takes the name; the other's file has none.

    Args:
        path: The file.
        overwrite: Whether one that is there is replaced; a link, device or pipe is written through.

    Raises:
        FileExistsError: It is there, and `overwrite` is False.
        OSError: It can't be made.
    """
    if overwrite:
        if path.is_file() and not path.is_symlink():
            with contextlib.suppress(OSError):  # a mount, or in use where the system minds: emptied instead
                path.unlink()
        return cast(BinaryIO, path.open("wb", buffering=0))
    return cast(BinaryIO, path.open("xb", buffering=0))


def to_standard_output(data: bytes) -> None:
    """Writes to standard output and flushes it.

    Raises:
        OutputError: There is none, its reader went away, or its disk is full.
    """
    stream = sys.stdout
    try:
        if stream is None:
            raise OSError(0, "there is none")
        if hasattr(stream, "buffer"):
            stream.buffer.write(data)
        else:
            stream.write(data.decode("utf-8"))
        stream.flush()
    except OSError as error:
        # Python flushes standard output again when it ends, and would complain on standard error.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            raise ReaderGoneError("the reader of standard output went away") from error
        raise OutputError(f"can't write to standard output: {error.strerror or error}") from error


def file_hash(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
