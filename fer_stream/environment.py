"""What OpenCV reads from the environment: set before anything imports it, for it reads some of it once."""

import os

OPENCV_SETTINGS = {
    # Its FFmpeg writes to standard error on its own, also addresses with their passwords. -8 is FFmpeg's
    # AV_LOG_QUIET.
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
    # Media Foundation looks for hardware converters when a camera opens, for up to a minute; without
    # them it starts in a second (github.com/opencv/opencv/issues/17687).
    "OPENCV_VIDEOIO_MSMF_ENABLE_HW_TRANSFORMS": "0",
    # Seconds that Video4Linux waits for a picture; as long as network streams get.
    "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "5",
}


def set_opencv_environment() -> None:
    """Sets what the user has not set."""
    for name, value in OPENCV_SETTINGS.items():
        os.environ.setdefault(name, value)
