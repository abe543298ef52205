"""Typed errors, each with the exit code of the command that it ends.

The library raises them with a one-line message that says what is wrong and what to do. Only the
commands print them. As in OCRmyPDF, exceptions carry the exit codes, and one place turns them into
words and codes.
"""


class FerStreamError(Exception):
    """Base of every error that a user can meet.

    Its message may name an option of the command. In Python, use the argument of the same name: instead of
    `--overwrite`, pass `overwrite=True`. Options for outputs, such as `--save`, are sinks.
    """

    exit_code = 1


class OutOfMemoryError(FerStreamError):
    """Memory ran out.

    The commands raise it. In your own program, you get the error of the library that ran out of memory, such
    as `MemoryError` or `cv2.error`.
    """

    def __init__(self, remedy: str = "end other programs, or make the picture smaller") -> None:
        super().__init__(f"not enough memory; {remedy}")
        self._remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the remedy, from which the message is made again."""
        return type(self), (self._remedy,)


class UsageError(FerStreamError):
    """Options that are wrong or contradict each other."""

    exit_code = 2


class SourceError(FerStreamError):
    """The source can't be opened, or ended in an error."""

    exit_code = 3


class NoFramesError(SourceError):
    """The recording can be read, but has no frame in the requested part."""


class OutputError(FerStreamError):
    """An output can't be written."""

    exit_code = 4


class ReaderGoneError(OutputError):
    """The reader of standard output went away, as `head` does."""


class WeightsError(FerStreamError):
    """The weights can't be used."""

    exit_code = 5


INTERRUPTED_EXIT_CODE = 130


def reason_of(error: BaseException) -> str:
    """Return why the system or a library failed, for the end of a message.

    This is the system's own text, such as "No space left on device", or else the first line of the error's
    message.
    """
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]


def cannot_write(place: object, error: BaseException) -> OutputError:
    """Return an error that names an output and the reason why it can't be written."""
    return OutputError(f"can't write {place}: {reason_of(error)}")


LONGEST_LINE = 4000  # longer than any path


def one_line(text: object) -> str:
    """Return a text that is safe to print as one line, whatever the names of files in it.

    The result breaks no line, moves no cursor and sets no colour. The middle of a very long text is left out.
    """
    shown = str(text)
    if len(shown) > LONGEST_LINE:
        shown = f"{shown[: LONGEST_LINE // 2]} ... {shown[-LONGEST_LINE // 2 :]}"
    words = " ".join(shown.split())
    return "".join(character if character.isprintable() else "\ufffd" for character in words)
