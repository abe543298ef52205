"""Outputs of analyzed frames, each a `Sink`: video, pictures, table, charts, report, window and more."""

import cv2  # noqa: F401  before PyAV, whose wheel has an X11 library that makes OpenCV's windows hang

from fer_stream.sinks.base import RunContext, Sink, check_folder, check_output
from fer_stream.sinks.charts import FaceChartSink, TimelineSink
from fer_stream.sinks.crops import CropsSink
from fer_stream.sinks.episodes import EPISODE_COLUMNS, EPISODE_EXTENSIONS, EpisodesSink
from fer_stream.sinks.images import IMAGE_EXTENSIONS, ImageSink
from fer_stream.sinks.report import REPORT_EXTENSIONS, ReportSink
from fer_stream.sinks.stills import StillsSink
from fer_stream.sinks.table import TABLE_COLUMNS, TABLE_EXTENSIONS, TableSink
from fer_stream.sinks.video import VIDEO_EXTENSIONS, VideoSink
from fer_stream.sinks.virtual_camera import VirtualCameraSink
from fer_stream.sinks.window import WindowSink, display_available, why_no_window

__all__ = [
    "EPISODE_COLUMNS",
    "EPISODE_EXTENSIONS",
    "IMAGE_EXTENSIONS",
    "REPORT_EXTENSIONS",
    "TABLE_COLUMNS",
    "TABLE_EXTENSIONS",
    "VIDEO_EXTENSIONS",
    "CropsSink",
    "EpisodesSink",
    "FaceChartSink",
    "ImageSink",
    "ReportSink",
    "RunContext",
    "Sink",
    "StillsSink",
    "TableSink",
    "TimelineSink",
    "VideoSink",
    "VirtualCameraSink",
    "WindowSink",
    "check_folder",
    "check_output",
    "display_available",
    "why_no_window",
]
