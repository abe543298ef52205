"""`--verbose`: the `fer_stream` logger on standard error."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress

from fer_stream.sources.addresses import without_passwords

LOGGER = logging.getLogger("fer_stream")


def log_to_standard_error(prog: str, *, verbose: bool) -> None:
    """Start or stop logging to standard error. This undoes an earlier call.

    Args:
        prog: The command's name, which begins each line.
        verbose: Log everything, with tracebacks; otherwise nothing.
    """
    for handler in LOGGER.handlers[:]:
        if isinstance(handler, _StandardError):
            LOGGER.removeHandler(handler)
    LOGGER.setLevel(logging.DEBUG if verbose else logging.NOTSET)
    if verbose:
        LOGGER.addHandler(_StandardError(prog))


class _StandardError(logging.Handler):
    """Writes to the current `sys.stderr`, because the commands replace it while they run."""

    def __init__(self, prog: str) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(f"{prog}: %(relativeCreated)d ms, %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. Addresses lose their passwords, also those in a traceback."""
        with suppress(OSError):
            print(without_passwords(self.format(record)), file=sys.stderr, flush=True)
