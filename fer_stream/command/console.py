"""A console that tolerates a broken pipe and a full disk."""

from __future__ import annotations

from contextlib import suppress
from typing import IO, Any

from rich.console import Console


class PatientConsole(Console):
    """A console whose failing writes do not end the run: the files matter more than the messages."""

    @property
    def file(self) -> Any:
        """The stream to write to. Text that it can't take is lost without an error."""
        return _Patient(super().file)

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file

    def on_broken_pipe(self) -> None:
        """Stop printing, instead of ending the program."""
        self.quiet = True


class _Patient:
    """A text stream that ignores failing writes."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text. Ignore errors."""
        with suppress(OSError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream. Ignore errors."""
        with suppress(OSError):
            self._stream.flush()
