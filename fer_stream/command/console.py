"""The terminal on which a command says what it does."""

from __future__ import annotations

from contextlib import suppress
from typing import IO, Any

from rich.console import Console


class PatientConsole(Console):
    """A console whose reader may go away and whose disk may be full: the run's files count, not its words."""

    @property
    def file(self) -> Any:
        """The stream to write to; what it can't take is lost without an error."""
        return _Patient(super().file)

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file

    def on_broken_pipe(self) -> None:
        """Say nothing from now on, instead of ending the program."""
        self.quiet = True


class _Patient:
    """A text stream whose failing writes are no errors."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, if the stream takes it."""
        with suppress(OSError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream, if it can be."""
        with suppress(OSError):
            self._stream.flush()
