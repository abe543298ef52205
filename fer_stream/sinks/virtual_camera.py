"""Send the annotated picture to a virtual camera, for meeting software."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from fer_stream.errors import OutputError, UsageError
from fer_stream.sinks.base import Sink
from fer_stream.sinks.real_time import RealTime
from fer_stream.sources import SourceKind
from fer_stream.system.extras import require_extra

if TYPE_CHECKING:
    from fer_stream.sources import SourceInfo
    from fer_stream.types import AnalyzedFrame

_UNKNOWN_RATE = 30.0

_REMEDIES = {
    "linux": "load one with: sudo modprobe v4l2loopback (package v4l2loopback-dkms)",
    "darwin": "install OBS, start its virtual camera once, and stop it",
    "win32": "install OBS, which includes one",
}


class VirtualCameraSink(Sink):
    """Sends the annotated pictures to a virtual camera: v4l2loopback on Linux, OBS's elsewhere.

    A recording is sent at its own pace, and a live source as its frames come. The camera keeps the size of
    the first picture, and other pictures are resized to it.
    """

    name = "virtual camera"
    needs_frame = False

    def __init__(self, info: SourceInfo) -> None:
        """Open the camera.

        Raises:
            UsageError: The source is pictures, or pyvirtualcam is not installed.
            OutputError: There is no virtual camera.
        """
        super().__init__()
        if info.kind == SourceKind.IMAGES or info.size_wh is None:
            raise UsageError("--virtual-camera sends a video or a camera; pictures are saved with --save")
        require_extra("virtual-camera", "--virtual-camera")
        import pyvirtualcam

        self._size_wh = info.size_wh
        self._pace = RealTime() if info.kind == SourceKind.VIDEO else None
        rate = float(info.frame_rate or _UNKNOWN_RATE)
        self._camera: Any
        try:
            self._camera = pyvirtualcam.Camera(*info.size_wh, rate, fmt=pyvirtualcam.PixelFormat.BGR)
        except (RuntimeError, OSError, ValueError) as error:
            remedy = _REMEDIES.get(sys.platform, "install one")
            raise OutputError(f"there is no virtual camera to send to; {remedy}") from error

    def needs_image(self, analyzed: AnalyzedFrame) -> bool:
        """Return True: every frame is sent."""
        return True

    def write(self, analyzed: AnalyzedFrame, image_bgr: np.ndarray | None) -> None:
        """Send one picture. See `Sink.write`."""
        if image_bgr is None:
            raise ValueError("a virtual camera needs the annotated picture")
        if self._pace is not None:
            self._pace.wait_for(analyzed.frame.time_s)
        if image_bgr.shape[1::-1] != self._size_wh:
            image_bgr = cv2.resize(image_bgr, self._size_wh, interpolation=cv2.INTER_AREA)
        try:
            self._camera.send(np.ascontiguousarray(image_bgr))
        except (RuntimeError, OSError) as error:
            raise OutputError(f"can't send to the virtual camera {self._camera.device}: {error}") from error

    def close(self) -> None:
        """Release the camera. May be called again."""
        self._camera.close()

    def outputs(self) -> list[Path]:
        """Return an empty list: a virtual camera makes no file."""
        return []
