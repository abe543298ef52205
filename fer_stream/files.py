"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
