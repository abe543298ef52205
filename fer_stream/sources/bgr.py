"""Convert decoded frames to BGR in reused buffers.

Fresh memory for a 4K picture costs more time than its conversion. FFmpeg's `scale` filter reuses the
buffers of pictures that have been released. PyAV's reformatter always takes fresh memory.
"""

from __future__ import annotations

from fractions import Fraction

import av.error
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

_ANY_TIME_BASE = Fraction(1, 1000)  # the filter asks for one, and does not use it


class BgrConverter:
    """Converts the frames of one recording.

    Colours follow FFmpeg's defaults: matrix and range as the frame is tagged, or else BT.601 and limited
    range, whatever the size. Interlaced frames are not deinterlaced, and alpha is dropped.

    Args:
        size_wh: Size of the pictures in px. Frames of another size are scaled.
        threads: CPU threads that convert a frame.
    """

    def __init__(self, size_wh: tuple[int, int], threads: int = 1) -> None:
        self._size_wh, self._threads = size_wh, threads
        # One reformatter for all frames keeps its tables; to_ndarray(format=...) makes new ones each time.
        self._reformatter = VideoReformatter()
        self._graph: Graph | None = None
        self._layout: tuple[object, ...] = ()

    def convert(self, frame: VideoFrame) -> np.ndarray:
        """Return the picture of a frame, uint8 (H, W, 3).

        Raises:
            av.error.FFmpegError, ValueError: There is no conversion from the frame's format.
        """
        layout = (
            *(frame.width, frame.height, frame.format.name),
            *(frame.colorspace, frame.color_range, frame.interlaced_frame),
        )
        if layout != self._layout:
            # The filter mixes the colours of the two fields of an interlaced frame.
            self._graph = None if frame.interlaced_frame else self._new_graph(frame)
            self._layout = layout
        if self._graph is not None:
            try:
                self._graph.push(frame)
                # FFmpeg pads the rows of some widths.
                return np.ascontiguousarray(self._graph.pull().to_ndarray())
            except av.error.FFmpegError:
                self._graph = None  # unlike the reformatter, it refuses a reserved transfer characteristic
        width, height = self._size_wh
        return self._reformatter.reformat(frame, width=width, height=height, format="bgr24").to_ndarray()

    def _new_graph(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        graph.threads = self._threads
        width, height = self._size_wh
        graph.link_nodes(
            graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=_ANY_TIME_BASE
            ),
            graph.add("scale", f"{width}:{height}:flags=bilinear"),
            graph.add("format", "bgr24"),
            graph.add("buffersink"),
        ).configure()
        return graph
