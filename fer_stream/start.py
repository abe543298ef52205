"""Where the commands' processes begin: Ctrl-C has its line and its exit code from the first moment on.

Nothing heavy is imported before that is so, and nothing is open yet that would have to be finished.
"""

from __future__ import annotations

import importlib
from typing import NoReturn

from fer_stream.environment import set_matplotlib_environment
from fer_stream.interrupts import end_at_once, set_interrupt_handler


def fer_stream() -> NoReturn:
    """Runs `fer-stream`."""
    _run("fer-stream", "fer_stream.cli")


def fer_train() -> NoReturn:
    """Runs `fer-train`."""
    _run("fer-train", "train.cli")


def fer_batch() -> NoReturn:
    """Runs `fer-batch`."""
    _run("fer-batch", "fer_stream.batch.cli")


def _run(prog: str, module: str) -> NoReturn:
    set_interrupt_handler(lambda: end_at_once(prog))
    set_matplotlib_environment()
    code: int = importlib.import_module(module).main()
    from fer_stream.command import end_program

    end_program(code)
