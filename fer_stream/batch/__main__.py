"""Entry point of `fer-batch` and of `python -m fer_stream.batch`."""

from typing import NoReturn

from fer_stream.command.start import start


def main() -> NoReturn:
    """Run `fer-batch`."""
    start("fer-batch", "fer_stream.batch.cli")


if __name__ == "__main__":
    main()
