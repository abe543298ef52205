"""A camera without a device."""

from __future__ import annotations

import cv2
import numpy as np


class FakeVideoCapture:
    """Replaces OpenCV's class: it records the requests, and returns grey pictures of `size_wh`."""

    size_wh = (640, 480)
    opens = frozenset({cv2.CAP_V4L2, cv2.CAP_MSMF, cv2.CAP_DSHOW, cv2.CAP_AVFOUNDATION})
    refuses_parameters = False

    def __init__(self, index: int, api: int, parameters: list[int]) -> None:
        self.opened = api in self.opens and not (parameters and self.refuses_parameters)
        self.asked = list(zip(parameters[::2], parameters[1::2], strict=True))
        self.log.append((api, self.asked))

    log: list[tuple[int, list[tuple[int, float]]]]

    def isOpened(self) -> bool:
        return self.opened

    def set(self, property_id: int, value: float) -> bool:
        self.asked.append((property_id, value))
        return True

    def get(self, property_id: int) -> float:
        return {cv2.CAP_PROP_FPS: 30.0}.get(property_id, -1.0)

    def read(self) -> tuple[bool, np.ndarray]:
        return True, np.full((self.size_wh[1], self.size_wh[0], 3), 90, np.uint8)

    def release(self) -> None:
        pass
