"""Recognize files that name other files or addresses."""

from __future__ import annotations


def is_list(head: bytes) -> bool:
    """Return whether a file is a playlist, a session description or an FFmpeg script.

    Args:
        head: Its first kilobyte.
    """
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return start.startswith((b"#EXTM3U", b"ffconcat", b"v=0", b"[playlist]")) or b"<MPD" in start
