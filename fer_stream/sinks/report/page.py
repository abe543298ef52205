"""Make the report's page: its content as JSON, and the HTML file with all scripts and styles."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_stream.errors import one_line
from fer_stream.expressions import LABELS, UNSURE
from fer_stream.rendering.html import csp_hash, json_for_script, palette_css, static_text, uplot_script
from fer_stream.sinks.table import printable_source
from fer_stream.system.files import relative_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fer_stream.face_time import PersonTime
    from fer_stream.sinks.curves import Curves
    from fer_stream.sinks.episodes.builder import Episode
    from fer_stream.sinks.provenance import Provenance
    from fer_stream.sinks.report.thumbnails import Thumbnails
    from fer_stream.sources import SourceInfo

# Only the people seen longest get several pictures. The next get one picture, and the rest none, so that the
# report of a crowd stays small.
FULL_PEOPLE = 30
PICTURED_PEOPLE = 150
_LEAST_PICTURED_SHARE = 0.03  # an expression with a smaller share of the time gets no picture
_SCRIPTS = ("base.js", "people.js", "timeline.js", "episodes.js", "words.js")  # in this order


@dataclass(frozen=True)
class SavedVideo:
    """The annotated video beside a report.

    Attributes:
        path: The file.
        report_folder: Where the report is.
        starts_s: Time in the source at which the video starts.
    """

    path: Path
    report_folder: Path
    starts_s: float

    def as_dict(self) -> dict[str, Any]:
        """Return the video for the page, with a relative address, so that both files can move together.

        Only a video on another drive has an absolute address.
        """
        address = relative_url(self.path, self.report_folder) or self.path.resolve().as_uri()
        return {"src": address, "name": one_line(self.path.name), "starts_s": round(self.starts_s, 6)}


def report_content(
    *,
    info: SourceInfo,
    provenance: Provenance,
    blurred: bool,
    span_s: tuple[float, float],
    frames: int,
    frame_s: float,
    people: Sequence[PersonTime],
    episodes: Sequence[Episode],
    curves: Curves,
    thumbnails: Thumbnails,
    video: SavedVideo | None,
) -> dict[str, Any]:
    """Return the content of the report, ready for JSON.

    Args:
        info: The source.
        provenance: What produced the results.
        blurred: Whether faces are hidden in the pictures.
        span_s: Times of the first and the last frame in the source.
        frames: Number of frames.
        frame_s: Time from frame to frame.
        people: How long each person was seen.
        episodes: Sorted by face and then by time.
        curves: Everyone's probabilities over time.
        thumbnails: Everyone's pictures.
        video: The annotated video; None without one.
    """
    longest_first = sorted(people, key=lambda each: (-each.seen_s, each.id))
    name = one_line(printable_source(info.name))
    return {
        "title": Path(name).name or name,
        "labels": list(LABELS),
        "span_s": [round(value, 6) for value in span_s],
        "duration_s": None if info.duration_s is None else round(info.duration_s, 3),
        "frames": frames,
        "frame_s": round(frame_s, 6),
        "step_s": curves.step_s,
        "blurred": blurred,
        "people": [_person(person, rank, curves, thumbnails) for rank, person in enumerate(longest_first)],
        "episodes": [_episode(each) for each in episodes],
        "video": None if video is None else video.as_dict(),
        "provenance": {key: _printable(value) for key, value in provenance.as_dict().items()},
    }


def _person(person: PersonTime, rank: int, curves: Curves, thumbnails: Thumbnails) -> dict[str, Any]:
    """Return the part of the report about a person. Only the people seen longest have pictures."""
    entry: dict[str, Any] = {
        "id": person.id,
        "seconds": {label: round(value, 3) for label, value in person.label_s.items() if value},
        "curve": curves.encoded(person.id),
    }
    if rank < PICTURED_PEOPLE:
        entry["picture"] = thumbnails.best(person.id).as_dict()
    if rank < FULL_PEOPLE:
        shares = sorted(person.shares().items(), key=lambda item: -item[1])
        entry["pictures"] = [
            thumbnails.of_label(person.id, label).as_dict()
            for label, share in shares
            if label != UNSURE and share >= _LEAST_PICTURED_SHARE
        ]
    return entry


def _episode(episode: Episode) -> list[float]:
    return [
        episode.face_id,
        round(episode.start_s, 3),
        round(episode.end_s, 3),
        LABELS.index(episode.expression),
        round(episode.confidence_mean, 6),
        round(episode.confidence_max, 6),
    ]


def report_page(content: dict[str, Any]) -> str:
    """Return the HTML file with its content, scripts and styles. No other script can run in it.

    Args:
        content: What `report_content` returns.
    """
    style = "\n".join(
        (
            static_text("uPlot.min.css", "fer_stream.rendering.html"),
            palette_css(),
            static_text("theme.css", "fer_stream.rendering.html"),
            static_text("static/report.css", __package__),
        )
    )
    scripts = [
        uplot_script(),
        static_text("shared.js", "fer_stream.rendering.html"),
        *(static_text(f"static/{name}", __package__) for name in _SCRIPTS),
    ]
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(csp_hash(script) for script in scripts)}",
            f"style-src {csp_hash(style)}",
            "img-src data:",
            "media-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    parts = {
        "policy": html.escape(policy, quote=True),
        "title": html.escape(f"{content['title']} · fer-stream report"),
        "style": style,
        "content": json_for_script(content),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    page = static_text("static/report.html", __package__)
    before, *pieces = page.split("{{")
    for piece in pieces:
        name, _, after = piece.partition("}}")
        before += parts[name] + after
    return before


def _printable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: one_line(str(each)) for key, each in value.items()}
    return one_line(printable_source(value)) if isinstance(value, str) else value
