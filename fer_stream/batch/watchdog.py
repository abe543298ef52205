"""End a worker whose recording makes no progress, so that the other recordings go on.

A decoder may hang in C code, where no Python thread runs any more. `faulthandler` ends the process from its
own C thread. Ray then gives the recording to another worker, which finds the note that the first one left,
and fails the recording at once.
"""

from __future__ import annotations

import faulthandler
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fer_stream.batch.inputs import Recording
from fer_stream.errors import SourceError

# Seconds without a frame. Minutes may pass on a slow disk, or before a late part of a file in which seeking
# fails.
STUCK_S = 600.0
_REARM_S = 5.0


@contextmanager
def watched(recording: Recording, stuck_s: float | None = None) -> Iterator[Callable[..., None]]:
    """Watch the work on a recording; end this process if it makes no progress.

    Args:
        recording: The recording.
        stuck_s: Seconds without progress after which the process ends; `STUCK_S` if not given.

    Yields:
        A function to call at each sign of progress, with any arguments.

    Raises:
        SourceError: An earlier worker on this machine got stuck with this recording.
    """
    stuck_s = STUCK_S if stuck_s is None else stuck_s
    note = _note(recording)
    if note.exists() and note.stat().st_size:
        note.unlink(missing_ok=True)
        raise SourceError(f"{recording.name} made no progress for {stuck_s:.0f} s; its decoder may hang")
    armed_s = time.monotonic()
    try:
        with note.open("w") as file:
            faulthandler.dump_traceback_later(stuck_s, exit=True, file=file)

            def progress(*_: object) -> None:
                nonlocal armed_s
                if time.monotonic() - armed_s > min(_REARM_S, stuck_s / 4):
                    armed_s = time.monotonic()
                    faulthandler.dump_traceback_later(stuck_s, exit=True, file=file)

            try:
                yield progress
            finally:
                faulthandler.cancel_dump_traceback_later()
    finally:
        note.unlink(missing_ok=True)


def _note(recording: Recording) -> Path:
    """Return the file in which a stuck worker says where it hangs.

    Its name includes the id of the parent process, which all workers of one run on this machine share. So a
    note left by a killed run does not fail the next run.
    """
    digest = hashlib.sha256(f"{recording.output_name} {recording.stamp}".encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"fer-batch-stuck-{os.getppid()}-{digest}.txt"
