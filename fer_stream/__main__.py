"""Entry point of `fer-stream` and of `python -m fer_stream`."""

from typing import NoReturn

from fer_stream.command.start import start
from fer_stream.system.environment import limit_openblas


def main() -> NoReturn:
    """Run `fer-stream`."""
    limit_openblas()
    start("fer-stream", "fer_stream.command.cli")


if __name__ == "__main__":
    main()
