"""Look for the files of a run, and turn errors from reading them into one line.

An error of the system, such as a missing permission, must not look like damage: the advice for damage is to
remove or replace the file.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fer_stream.errors import FerStreamError, SourceError, reason_of
from fer_stream.system.memory import is_out_of_memory


def cannot_read(
    path: object, error: OSError, error_type: type[FerStreamError] = SourceError
) -> FerStreamError:
    """Return an error that names a file and the system's reason why it can't be read."""
    return error_type(f"can't read {path}: {reason_of(error)}")


@contextmanager
def read_errors(
    path: object, damaged: FerStreamError, error_type: type[FerStreamError] | None = None
) -> Iterator[None]:
    """Turn errors from reading a file into one line, unless memory ran out.

    Args:
        path: The file.
        damaged: Raised if the content is damaged, for which libraries raise many types.
        error_type: Raised if the system can't read the file. By default it is the type of `damaged`.
    """
    try:
        yield
    except FerStreamError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # Pillow's errors about damage are OSErrors without a number. EINVAL comes from a seek to a negative
        # position, which a damaged file can ask for.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise cannot_read(path, error, error_type or type(damaged)) from error
        raise damaged from error


def is_file(path: Path, error_type: type[FerStreamError] = SourceError) -> bool:
    """Return whether a path is a regular file. Raise the error if the system can't tell."""
    return stat.S_ISREG(_mode(path, error_type))


def is_folder(path: Path, error_type: type[FerStreamError] = SourceError) -> bool:
    """Return whether a path is a folder. Raise the error if the system can't tell."""
    return stat.S_ISDIR(_mode(path, error_type))


def _mode(path: Path, error_type: type[FerStreamError]) -> int:
    """Return the mode of a file or folder, or 0 if it does not exist.

    The methods of `Path` are no substitute: from Python 3.14 on, they return False if a folder above is not
    accessible.
    """
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise cannot_read(path, error, error_type) from error
