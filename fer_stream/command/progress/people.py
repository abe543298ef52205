"""Lines of the end-of-run summary for the people of a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from fer_stream.command.colors import LABEL_STYLES
from fer_stream.face_time import MOMENT_S, main_shares, more_people_text, shares_of
from fer_stream.words import duration_text, percent

if TYPE_CHECKING:
    from fer_stream.pipeline import Summary

MOST_LINES = 12


def people_lines(summary: Summary) -> list[Text]:
    """Return a line for each person: id, time seen, and the main labels with their shares of that time.

    Only the people seen longest get a line, in the order of their ids. Another line counts the others. If
    there are several people, the last line is about all of them.
    """
    by_length = sorted(summary.people.by_id.values(), key=lambda person: (-person.seen_s, person.id))
    listed = [person for person in by_length if person.seen_s >= MOMENT_S] or by_length
    named = sorted(listed[:MOST_LINES], key=lambda person: person.id)
    rows = [(f"person {person.id}", person.seen_s, person.shares()) for person in named]
    others = [person.seen_s for person in by_length if person not in named]
    if summary.faces > 1:
        rows.append(("all people", sum(summary.label_s.values()), shares_of(summary.label_s)))
    width = max((len(name) for name, _, _ in rows), default=0)
    times = [duration_text(seen_s) for _, seen_s, _ in rows]
    time_width = max(map(len, times), default=0)
    lines = [
        Text.assemble(f"{name:<{width}}  seen {time:>{time_width}}  ", shares_text(shares))
        for (name, _, shares), time in zip(rows, times, strict=True)
    ]
    longest_s = max([summary.people.dropped_longest_s, *others])
    more = more_people_text(len(others) + summary.people.dropped, longest_s)
    if more:
        lines.insert(len(named), Text(more))
    return lines


def shares_text(shares: dict[str, float]) -> Text:
    """Return the main labels with their shares, "happy 62 %, unsure 20 %", each in its colour."""
    text = Text()
    for label, share in main_shares(shares).items():
        text.append(", " if text else "")
        text.append(label, LABEL_STYLES[label])
        text.append(f" {percent(share)} %")
    return text
