"""Charts: a picture beside its bar chart (`face`), and a video's timeline (`timeline`).

`timeline` collects a `curve` and a `portrait` of each face, and `figure` draws them. matplotlib loads with
the first chart; `plotting.load_matplotlib` loads it earlier.
"""

from fer_stream.rendering.charts.face import face_chart
from fer_stream.rendering.charts.timeline import Timeline
from fer_stream.rendering.plotting import CHART_SUFFIXES

__all__ = ["CHART_SUFFIXES", "Timeline", "face_chart"]
