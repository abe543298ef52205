"""Write episodes to files: CSV for tables, WebVTT for players, EAF for the annotation tool ELAN."""

from __future__ import annotations

import csv
import mimetypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_stream.expressions import LABELS
from fer_stream.sinks.episodes.builder import Episode
from fer_stream.sinks.provenance import Provenance
from fer_stream.system.files import relative_url

EPISODE_COLUMNS = (
    *("source", "face_id", "start_s", "end_s"),
    *("expression", "confidence_mean", "confidence_max"),
)
# ELAN's schema, see https://www.mpi.nl/tools/elan/EAFv3.0.xsd.
_EAF_VERSION = "3.0"
_EXPRESSION_TYPE = "expression"
_VOCABULARY = "expressions"


@dataclass(frozen=True)
class EpisodeList:
    """The episodes of one source, ready to be written.

    Attributes:
        episodes: Sorted by face and then by time; times count in the source.
        source: The source's name, as in the table.
        media: The video for players to show beside the episodes; None without a video.
        media_starts_s: Time in the source at which that video starts.
        folder: Where the file of the episodes will be.
        provenance: What produced them.
    """

    episodes: Sequence[Episode]
    source: str
    media: Path | None
    media_starts_s: float
    folder: Path
    provenance: Provenance

    def media_ms(self, time_s: float) -> int:
        """Return a time in the source as a time in the video, in whole milliseconds from 0."""
        return max(0, round((time_s - self.media_starts_s) * 1000))


def write_csv(episode_list: EpisodeList, path: Path) -> None:
    """Write one row per episode; times count in the source, as in the table."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(EPISODE_COLUMNS)
        for episode in episode_list.episodes:
            rows.writerow(
                (
                    episode_list.source,
                    episode.face_id,
                    round(episode.start_s, 6),
                    round(episode.end_s, 6),
                    episode.expression,
                    round(episode.confidence_mean, 6),
                    round(episode.confidence_max, 6),
                )
            )


def write_vtt(episode_list: EpisodeList, path: Path) -> None:
    """Write subtitles (WebVTT): one cue per episode, on the video's clock."""
    blocks = [f"WEBVTT\n\nNOTE fer-stream {episode_list.provenance.version}"]
    for episode in sorted(episode_list.episodes, key=lambda each: (each.start_s, each.face_id)):
        start_ms, end_ms = episode_list.media_ms(episode.start_s), episode_list.media_ms(episode.end_s)
        if end_ms > start_ms:
            text = f"Person {episode.face_id}: {episode.expression}"
            blocks.append(f"{_vtt_time(start_ms)} --> {_vtt_time(end_ms)}\n{text}")
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def write_eaf(episode_list: EpisodeList, path: Path) -> None:
    """Write an ELAN document: one tier per person, on the clock of the linked video."""
    from pympi import Eaf

    eaf = Eaf(author=f"fer-stream {episode_list.provenance.version}")
    eaf.remove_tier("default")
    eaf.remove_linguistic_type("default-lt")
    eaf.adocument |= {
        # pympi's own date is wrong in time zones of half an hour.
        "DATE": episode_list.provenance.started_at.isoformat(),
        "VERSION": _EAF_VERSION,
        "FORMAT": _EAF_VERSION,
        "xsi:noNamespaceSchemaLocation": f"http://www.mpi.nl/tools/elan/EAFv{_EAF_VERSION}.xsd",
    }
    eaf.header = {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"}
    eaf.add_language("eng", "http://cdb.iso.org/lg/CDB-00138502-001", "English (eng)")
    eaf.add_controlled_vocabulary(_VOCABULARY)
    for value in LABELS:
        eaf.add_cv_entry(_VOCABULARY, f"cveid_{value}", [(value, "eng", None)])
    eaf.add_linguistic_type(_EXPRESSION_TYPE)
    eaf.linguistic_types[_EXPRESSION_TYPE]["CONTROLLED_VOCABULARY_REF"] = _VOCABULARY
    for face_id in dict.fromkeys(episode.face_id for episode in episode_list.episodes):
        person = f"Person {face_id}"
        eaf.add_tier(
            person, ling=_EXPRESSION_TYPE, part=person, ann=f"fer-stream {episode_list.provenance.version}"
        )
    for episode in episode_list.episodes:
        start_ms, end_ms = episode_list.media_ms(episode.start_s), episode_list.media_ms(episode.end_s)
        if end_ms > start_ms:
            eaf.add_annotation(f"Person {episode.face_id}", start_ms, end_ms, episode.expression)
    if episode_list.media is not None:
        kind = mimetypes.guess_type(episode_list.media.name)[0] or "video/unknown"
        eaf.add_linked_file(
            episode_list.media.resolve().as_uri(),
            relpath=relative_url(episode_list.media, episode_list.folder),
            mimetype=kind,
        )
    eaf.to_file(str(path))


def _vtt_time(milliseconds: int) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{milliseconds:03d}"


WRITERS: dict[str, Callable[[EpisodeList, Path], None]] = {
    ".csv": write_csv,
    ".vtt": write_vtt,
    ".eaf": write_eaf,
}
