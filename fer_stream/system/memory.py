"""Limit the memory of pictures in queues, and recognize errors that mean too little memory."""

from __future__ import annotations

import errno

FOUR_K_BYTES = 20 * 2**20  # a picture of 4K takes 25 MB, one of 1440p 11 MB
LARGE_FRAME_BYTES = 30 * 2**20  # above this (larger than 4K), the look-ahead holds fewer frames
STAGE_BYTES = 52 * 2**20  # a stage holds at most this much ready (two 4K pictures), or else one item
EARLY_BYTES = 80 * 2**20  # of the frames that are scanned early; three scans of a crowd at 1080p
WAITING_BYTES = 200 * 2**20  # of large pictures that wait for later ones

_MESSAGES = (
    *("bad_alloc", "bad allocation", "not enough memory", "out of memory", "failed to allocate"),
    *("cannot allocate memory", "insufficient memory", "can't allocate", "unable to allocate"),
    "can't start new thread",  # there is no room for its stack
    "generic error in an external library",  # x264 has no other way to say it
    "failed to map segment",  # of a shared library
)


def frames_ahead(most: int, frame_bytes: int, most_bytes: int = STAGE_BYTES) -> int:
    """Return how many frames a stage may hold ready: `most`, or fewer if they are large. At least 1."""
    return max(1, min(most, most_bytes // max(1, frame_bytes)))


def one_at_a_time(frame_bytes: int) -> bool:
    """Return whether frames are so large that a stage may hold only one ready."""
    return frames_ahead(2, frame_bytes) == 1


def frames_together(most: int, frame_bytes: int) -> int:
    """Return how many frames may be processed together: `most`, or fewer from 4K on."""
    return most if frame_bytes < FOUR_K_BYTES else frames_ahead(most, frame_bytes)


def frames_waiting(most: int, frame_bytes: int) -> int:
    """Return how many frames may wait for later ones: `most`, or fewer if they are larger than 4K."""
    return most if frame_bytes <= LARGE_FRAME_BYTES else min(most, WAITING_BYTES // frame_bytes)


def has_memory_for(size_bytes: int) -> bool:
    """Return whether this process can allocate this much memory now. It is not used, and freed at once."""
    try:
        bytearray(size_bytes)
    except MemoryError:
        return False
    return True


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or one of its causes, says that memory ran out."""
    seen: BaseException | None = error
    while seen is not None:
        # EAGAIN is the system's error if a new process or thread, such as one of FFmpeg, finds no room.
        if isinstance(seen, MemoryError) or getattr(seen, "errno", None) in (errno.ENOMEM, errno.EAGAIN):
            return True
        text = str(seen).lower()
        if any(message in text for message in _MESSAGES):
            return True
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return False
