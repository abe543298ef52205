"""Typed errors. Each class carries the exit code of the command that it ends.

The library raises them with a message that says what is wrong and what to do, in one line; only
the commands print them. The idea is OCRmyPDF's: exit codes live on exceptions, and one place
turns them into words and codes.
"""


class FerStreamError(Exception):
    """Base of every error that a user can meet."""

    exit_code = 1


class OutOfMemoryError(FerStreamError):
    """Memory ran out."""

    def __init__(self) -> None:
        super().__init__("not enough memory; end other programs, or make the picture smaller")


class UsageError(FerStreamError):
    """Options that are wrong or contradict each other."""

    exit_code = 2


class SourceError(FerStreamError):
    """The source can't be opened, or ended in an error."""

    exit_code = 3


class NoFramesError(SourceError):
    """The recording is fine, but has no frame in the part that was asked for."""


class OutputError(FerStreamError):
    """An output can't be written."""

    exit_code = 4


class ReaderGoneError(OutputError):
    """The reader of standard output went away, as `head` does: nobody is left to tell."""


class WeightsError(FerStreamError):
    """The weights can't be used."""

    exit_code = 5


INTERRUPTED_EXIT_CODE = 130


LONGEST_LINE = 4000  # more than the longest path


def one_line(text: object) -> str:
    """Returns a text as it can be shown, whatever a file is called.

    Nothing in it breaks the line, moves the cursor or colours the terminal. Of an endless one, such as
    a line of a list that is no list, the middle is left out.
    """
    shown = str(text)
    if len(shown) > LONGEST_LINE:
        shown = f"{shown[: LONGEST_LINE // 2]} ... {shown[-LONGEST_LINE // 2 :]}"
    words = " ".join(shown.split())
    return "".join(character if character.isprintable() else "\ufffd" for character in words)
