"""Entry point of `fer-batch` and of `python -m fer_stream.batch`."""

from typing import NoReturn

from fer_stream.command.start import start
from fer_stream.system.environment import limit_openblas, open_standard_streams


def main() -> NoReturn:
    """Run `fer-batch`."""
    open_standard_streams()  # Ray fails without standard error
    limit_openblas()
    start("fer-batch", "fer_stream.batch.cli")


if __name__ == "__main__":
    main()
