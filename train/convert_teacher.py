"""Convert a network of the earlier training script into a teacher for `fer-train --teacher`.

    python -m train.convert_teacher NETWORK --output PATH

`train/script_files.py` describes NETWORK.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fer_stream.command.options import CommandParser
from fer_stream.command.reporting import exit_code_of
from fer_stream.recognition.weights import save_checkpoint
from train.script_files import read_script_file

PROG = "train.convert_teacher"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser(prog=PROG, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("network", type=Path, metavar="NETWORK", help="the file of the script")
    parser.add_argument("--output", type=Path, required=True, metavar="PATH", help="the checkpoint to write")
    return exit_code_of(PROG, lambda: _convert(parser.parse_args(argv)))


def _convert(options: argparse.Namespace) -> int:
    checkpoint = read_script_file(options.network)
    save_checkpoint(options.output, checkpoint, half_precision=True)
    size_mb = options.output.stat().st_size / 1e6
    print(f"wrote {options.output}, {checkpoint.architecture}, {size_mb:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
