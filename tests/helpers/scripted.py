"""A source without a file or a device."""

from __future__ import annotations

import time

import numpy as np

from fer_stream.sources import Source
from fer_stream.types import Frame
from helpers.contexts import make_info


class ScriptedSource(Source):
    """Yields 10 tiny frames per second whose pixels are their index, then ends or raises.

    Attributes:
        read: The number of frames that were read.
    """

    def __init__(
        self, count: int, *, error: BaseException | None = None, kind: str = "video", frame_s: float = 0.0
    ) -> None:
        super().__init__(mirror=False)
        self.info = make_info(name="scripted", kind=kind, path=None, size_wh=(8, 4), frame_count=count)
        self.count, self.error, self.frame_s = count, error, frame_s
        self.read = 0

    def _read(self) -> Frame | None:
        time.sleep(self.frame_s)
        if self.read == self.count:
            if self.error is not None:
                raise self.error
            return None
        bgr = np.full((4, 8, 3), self.read % 256, np.uint8)
        self.read += 1
        return self._frame(bgr, self.read - 1, (self.read - 1) / 10, "scripted")

    def _release(self) -> None:
        pass
