"""Prepare the process of a command before other modules load.

This reads and sets environment variables of OpenCV, OpenBLAS, matplotlib, rich and this package, and opens
standard streams.
"""

import os
import sys

from fer_stream.errors import SourceError, UsageError

# A few hundred kilobytes can unpack to gigabytes. Only medium-format cameras have more megapixels.
MAX_MEGAPIXELS = 64
MAX_VIDEO_MEGAPIXELS = 36  # 8K has 33; many frames are held at once
MAX_MEGAPIXELS_VARIABLE = "FER_STREAM_MAX_MEGAPIXELS"

OPENCV_SETTINGS = {
    # OpenCV's FFmpeg writes to standard error, including addresses with passwords. -8 is AV_LOG_QUIET.
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
    # When a camera opens, Media Foundation looks for hardware converters for up to a minute. Without that,
    # the camera starts in a second (github.com/opencv/opencv/issues/17687).
    "OPENCV_VIDEOIO_MSMF_ENABLE_HW_TRANSFORMS": "0",
    # Seconds that Video4Linux waits for a picture; the same as for network streams.
    "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "5",
}
# The one variable that users set on purpose for a command, such as `rtsp_transport;udp`.
_KEPT = "OPENCV_FFMPEG_CAPTURE_OPTIONS"


def set_opencv_environment() -> None:
    """Set OpenCV's variables, except those that hold a number. Any other value would abort OpenCV."""
    for name, value in {**OPENCV_SETTINGS, "OPENCV_IO_MAX_IMAGE_PIXELS": str(_pixels_or_default())}.items():
        if not os.environ.get(name, "").removeprefix("-").isdecimal():
            os.environ[name] = value
    if not os.environ.get("OPENCV_FOR_THREADS_NUM", "0").isdecimal():
        del os.environ["OPENCV_FOR_THREADS_NUM"]


def clean_environment() -> None:
    """Remove variables of other programs that would stop a command or change its results.

    OpenCV aborts the process if one of its variables has an unexpected value, so commands ignore all but one
    of them. Only the commands call this. A program that embeds this package keeps its settings.
    """
    for name in [name for name in os.environ if name.startswith("OPENCV_") and name != _KEPT]:
        del os.environ[name]
    # matplotlib writes this time into PDF files, and fails if it is not a number.
    if not os.environ.get("SOURCE_DATE_EPOCH", "0").isdecimal():
        del os.environ["SOURCE_DATE_EPOCH"]
    for name in ("COLUMNS", "LINES"):  # rich would print nothing in a terminal without a size
        if not os.environ.get(name, "").strip("0"):
            os.environ.pop(name, None)
    set_opencv_environment()
    # A matplotlibrc in the current folder, or a backend meant for another program, changes or breaks charts.
    os.environ["MATPLOTLIBRC"] = os.devnull
    os.environ.pop("MPLBACKEND", None)


def limit_openblas() -> None:
    """Keep OpenBLAS from starting a thread per core when NumPy loads. Our matrices are too small for them.

    If there is too little memory for its threads, or no more threads are allowed, OpenBLAS crashes or sends
    SIGINT to its own process. Our own threads then fail with an error that a command can report.

    `fer-train` does not call this, because PyTorch computes with OpenBLAS on some processors.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def open_standard_streams() -> None:
    """Open the null device for each standard stream that was closed from the start, as by `2>&-`.

    Some libraries need standard error. Others write to its descriptor, which would otherwise belong to the
    next file that is opened. `sys.stdout` stays None, so a command that has to print there reports an error.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # it is the lowest one that is free
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115, PTH123


def plain_matplotlib() -> bool:
    """Return whether matplotlib's settings must be reset, because `clean_environment` was called.

    matplotlib prefers a file in the current folder over the one that the environment names. So the file's
    settings have to be undone after matplotlib has loaded.
    """
    return os.environ.get("MATPLOTLIBRC") == os.devnull


def max_image_pixels() -> int:
    """Return the largest number of pixels that an image may have.

    Raises:
        UsageError: The environment variable that raises the limit does not hold a number.
    """
    return _max_pixels(MAX_MEGAPIXELS)


def max_video_pixels() -> int:
    """Return the largest number of pixels that a frame of a recording may have.

    Raises:
        UsageError: The environment variable that raises the limit does not hold a number.
    """
    return _max_pixels(MAX_VIDEO_MEGAPIXELS)


def check_pixels(name: object, size_wh: tuple[int, int], most: int) -> None:
    """Refuse a picture that states more pixels than `most`.

    Raises:
        SourceError: It has too many.
    """
    width, height = size_wh
    if width * height > most:
        raise SourceError(
            f"{name} has {width}x{height} pixels, more than {most // 1_000_000} megapixels; "
            f"make it smaller, or raise the limit with {MAX_MEGAPIXELS_VARIABLE}"
        )


def _max_pixels(megapixels: int) -> int:
    text = os.environ.get(MAX_MEGAPIXELS_VARIABLE) or str(megapixels)
    if not (text.isascii() and text.isdigit() and len(text) < 7 and int(text) > 0):
        raise UsageError(f"{MAX_MEGAPIXELS_VARIABLE} is {text!r}; give a whole number of megapixels")
    return int(text) * 1_000_000


def _pixels_or_default() -> int:
    """Return `max_image_pixels`, or the default if the variable is wrong.

    Reading an image reports that error.
    """
    try:
        return max_image_pixels()
    except UsageError:
        return MAX_MEGAPIXELS * 1_000_000
