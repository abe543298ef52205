"""Entry point of `fer-train` and of `python -m train`."""

from typing import NoReturn

from fer_stream.command.start import start


def main() -> NoReturn:
    """Run `fer-train`."""
    start("fer-train", "train.cli")


if __name__ == "__main__":
    main()
