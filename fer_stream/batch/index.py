"""Write the index of an archive's reports, `index.html`: one row per recording, on a page without scripts."""

from __future__ import annotations

import html
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from urllib.parse import quote

from fer_stream.batch.manifest import DONE, FAILED, Record
from fer_stream.batch.output_folder import Output
from fer_stream.errors import cannot_write, one_line
from fer_stream.expressions import LABELS, UNSURE
from fer_stream.face_time import main_shares, shares_of
from fer_stream.rendering.html import csp_hash, palette_css, static_text
from fer_stream.words import clock_text, counted, percent

INDEX = "index.html"
MOST_ROWS = 5000  # a browser still scrolls through these; the summary has all
_BAR_WIDTH = 220
_STYLE = """
body { padding: 0 clamp(1rem, 3vw, 2.5rem) 3rem; max-width: 1300px; margin: 0 auto; }
h1 { padding: 1.75rem 0 0.25rem; }
.frame { overflow-x: auto; border: 1px solid var(--edge); border-radius: 10px; margin-top: 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 0.4rem 0.8rem; vertical-align: middle; }
td { border-top: 1px solid var(--edge); }
th:nth-child(2), td:nth-child(2), th:nth-child(3), td:nth-child(3) { text-align: right; }
thead { background: var(--raised); }
td:first-child { min-width: 12rem; }
svg { display: block; border-radius: 4px; }
.words { color: var(--quiet); font-size: 0.87rem; }
.words span { white-space: nowrap; }
.failed { color: var(--alarm); }
.hatching { position: absolute; }
.hatching rect { fill: var(--fill-unsure); }
rect.unsure { fill: url(#hatching); }
@media (max-width: 700px) {
  th, td { padding: 0.4rem 0.5rem; }
  td:first-child { min-width: 6rem; }
  .bar { width: 100%; }
}
"""
# "Unsure" is hatched, as in the reports.
_HATCHING = (
    '<svg class="hatching" width="0" height="0" aria-hidden="true">'
    '<pattern id="hatching" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="3" height="6"/></pattern></svg>'
)


def write_index(output: Output, records: Iterable[Record]) -> None:
    """Write the index.

    Raises:
        OutputError: It can't be written.
    """
    with output.writing(INDEX) as path:
        try:
            path.write_bytes(index_page(records, output.names("reports")).encode())
        except OSError as error:
            raise cannot_write(output.place(INDEX), error) from error


def index_page(records: Iterable[Record], reports: Collection[str]) -> str:
    """Return the index as HTML. Its policy allows nothing but its own style.

    Args:
        records: The recordings.
        reports: Names of the reports that exist. Other recordings get no link.
    """
    rows = sorted(records, key=lambda record: (record.source, record.output_name))
    bars = "".join(f"rect.{label} {{ fill: var(--fill-{label}); }}" for label in LABELS if label != UNSURE)
    style = palette_css() + static_text("theme.css", "fer_stream.rendering.html") + _STYLE + bars
    policy = html.escape(f"default-src 'none'; style-src {csp_hash(style)}; base-uri 'none'")
    states = Counter(record.state for record in rows)
    done, failed = states[DONE], states[FAILED]
    counts = {"done": done, "failed": failed, "not done yet": len(rows) - done - failed}
    summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count or state == "done")
    folder = common_folder([record.source for record in rows])
    place = f" Folder: {_breakable(folder)}." if folder else ""
    more = f" The first {MOST_ROWS} are listed." if len(rows) > MOST_ROWS else ""
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>fer-batch: {counted(len(rows), 'recording')}</title><style>{style}</style></head><body>",
            f"<h1>{counted(len(rows), 'recording')}</h1><p class='note'>{summary}.{place}{more}</p>",
            _HATCHING,
            "<div class='frame'><table><thead><tr><th>Recording</th><th>Length</th><th>People</th>",
            "<th>Share of the time that a face was seen</th></tr></thead><tbody>",
            *(_row(record, folder, reports) for record in rows[:MOST_ROWS]),
            "</tbody></table></div></body></html>",
        )
    )


def common_folder(sources: Sequence[str]) -> str:
    """Return the path of the folder that holds all sources, with its last separator; empty if none does."""
    prefix = os.path.commonprefix(sources)  # noqa: RUF071  # addresses, too
    return prefix[: max(prefix.rfind("/"), prefix.rfind("\\")) + 1]


def _breakable(path: str) -> str:
    """Return a path as HTML that can be broken into lines only at its separators."""
    return "<wbr>".join(map(html.escape, re.split(r"(?<=[/\\_-])(?=.)", one_line(path))))


def _row(record: Record, folder: str, reports: Collection[str]) -> str:
    name = _breakable(record.source.removeprefix(folder))
    if record.state != DONE:
        status = html.escape(one_line(record.error)) if record.state == FAILED else "not done yet"
        return f"<tr><td>{name}</td><td></td><td></td><td class='{record.state}'>{status}</td></tr>"
    report = f"{record.output_name}.html"
    if report in reports:
        name = f'<a href="{quote(f"reports/{report}")}">{name}</a>'
    length = clock_text(record.duration_s)
    return f"<tr><td>{name}</td><td>{length}</td><td>{record.faces}</td><td>{_shares(record)}</td></tr>"


def _shares(record: Record) -> str:
    """Return the shares as a bar and in words."""
    shares = shares_of(record.label_s)
    if not any(shares.values()):
        return "<span class='words'>no face</span>"

    def parts() -> Iterator[str]:
        left = 0.0
        for label, share in sorted(shares.items(), key=lambda item: -item[1]):
            width = share * _BAR_WIDTH
            yield f'<rect class="{label}" x="{left:.1f}" width="{width:.1f}" height="12"/>'
            left += width

    listed = main_shares(shares).items()  # as in the summary of fer-stream
    words = ", ".join(f"<span>{label} {percent(share)} %</span>" for label, share in listed)
    return (
        f'<svg class="bar" viewBox="0 0 {_BAR_WIDTH} 12" preserveAspectRatio="none"'
        f' width="{_BAR_WIDTH}" height="12" aria-hidden="true">{"".join(parts())}</svg>'
        f"<span class='words'>{words}</span>"
    )
