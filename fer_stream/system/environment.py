"""What OpenCV and matplotlib read from the environment: set before anything imports them."""

import os

OPENCV_SETTINGS = {
    # Its FFmpeg writes to standard error on its own, also addresses with their passwords. -8 is FFmpeg's
    # AV_LOG_QUIET.
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
    # Media Foundation looks for hardware converters when a camera opens, for up to a minute; without
    # them it starts in a second (github.com/opencv/opencv/issues/17687).
    "OPENCV_VIDEOIO_MSMF_ENABLE_HW_TRANSFORMS": "0",
    # A small file may unpack to a billion pixels.
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(2**28),
    # Seconds that Video4Linux waits for a picture; as long as network streams get.
    "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "5",
}


def set_opencv_environment() -> None:
    """Sets what the user has not set, or to no number, at which OpenCV would abort."""
    for name, value in OPENCV_SETTINGS.items():
        if not os.environ.get(name, "").removeprefix("-").isdecimal():
            os.environ[name] = value
    if not os.environ.get("OPENCV_FOR_THREADS_NUM", "0").isdecimal():
        del os.environ["OPENCV_FOR_THREADS_NUM"]


def set_matplotlib_environment() -> None:
    """Makes a command's charts, and those of the processes that it starts, look the same everywhere.

    A matplotlibrc that happens to lie in the current folder, or a backend for something else, changes
    or breaks them. An embedding program keeps its own settings: only the commands call this.
    """
    os.environ["MATPLOTLIBRC"] = os.devnull
    os.environ.pop("MPLBACKEND", None)


def plain_matplotlib() -> bool:
    """Returns whether `set_matplotlib_environment` was called.

    The file in the current folder comes before the one that the environment names: what it set has to
    be taken back once matplotlib has been loaded.
    """
    return os.environ.get("MATPLOTLIBRC") == os.devnull
