"""Start a command so that even an early interrupt gives its message and exit code.

This module imports nothing heavy, and sets the interrupt handler before the command's own modules load.
"""

from __future__ import annotations

import importlib
from typing import NoReturn

from fer_stream.system.environment import clean_environment
from fer_stream.system.interrupts import end_on_interrupt


def start(prog: str, module: str) -> NoReturn:
    """Import a command's module, run its `main` and end the process with the exit code.

    Args:
        prog: Name of the command, for messages.
        module: The module whose `main` runs the command. It loads after the interrupt handler is set.
    """
    end_on_interrupt(prog)
    clean_environment()
    code: int = importlib.import_module(module).main()
    from fer_stream.command.reporting import end_program

    end_program(code)
