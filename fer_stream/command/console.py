"""Where a command says in a terminal what it does."""

from __future__ import annotations

from rich.console import Console


class PatientConsole(Console):
    """A console whose reader may go away: a run's files count, not what is said about them."""

    def on_broken_pipe(self) -> None:
        """Says nothing from now on, instead of ending the program."""
        self.quiet = True
