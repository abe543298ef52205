"""Decide which tracks are people, and which tracks are the same person.

A track is shown once it is confirmed: its face was seen in more than one frame and, in a recording, for long
enough. A confirmed track gets the number of a person who was lost a moment ago if place, size and looks
agree, otherwise the next number. A wrong merge is worse than a new number, so in doubt the track gets a new
one.

Decisions depend only on the frame, the seconds before it and the look-ahead. So a recording that is analyzed
in overlapping parts gets the ids of one pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fer_stream.detection.appearance import likeness
from fer_stream.detection.association import REGAIN_SIZE_RATIO
from fer_stream.detection.tracker import TrackedFace

CONFIRMED_SIGHTINGS = 2  # frames that saw the face
CONFIRMED_S = 0.25  # from the first of them to the last, in a recording
# A face that is hidden for 3 s keeps its id. The detector loses it a little earlier and finds it a little
# later, because only a part of the face is visible at the edge of the picture or of an obstacle.
REMEMBERED_S = 3.5
# Least similarity of one person before and after. Different people reach 0.93 in similar light and coats.
SAME_LIKENESS = 0.75
LIKELIER_BY = 0.04  # lead over everyone else, so that neither of two people who look alike is continued
REACH, REACH_PER_S = 1.0, 0.6  # in sizes of the face: its largest distance from the expected place
LONGEST_WALK_S = 1.0  # a lost person is expected to keep walking for this long
PACE_S = 0.4  # the pace of a walk is measured over this long
FORGET_TRACK_S = 5.0  # longer than the tracker remembers a track


@dataclass(eq=False)
class _Track:
    """State of a track.

    Attributes:
        scene: Number of cuts before it.
        first_s: Time at which it was first seen.
        last_s: Time at which it was last seen.
        sightings: Number of frames that saw it.
        first: Its first sighting.
        last: Its last sighting.
        confirmed: Whether it is confirmed as a face.
        person: The person, once it was shown.
    """

    scene: int
    first_s: float
    last_s: float
    sightings: int
    first: TrackedFace
    last: TrackedFace
    confirmed: bool = False
    person: _Person | None = None


@dataclass(eq=False)
class _Person:
    """A person who was shown.

    Attributes:
        id: Number of the person, from 1, in order of appearance.
        track: The latest track.
        shown_s: Time at which the person was last shown.
        face: The face as last shown.
        earlier: Time and box of a sighting at most `PACE_S` earlier, for the speed.
    """

    id: int
    track: _Track
    shown_s: float
    face: TrackedFace
    earlier: tuple[float, np.ndarray]


class Identities:
    """Numbers the people of one video.

    Args:
        confirmed_s: Time that a face must be seen to be shown; 0 for a live source, which can't look ahead.
    """

    def __init__(self, confirmed_s: float = CONFIRMED_S) -> None:
        self._confirmed_s = confirmed_s
        self._tracks: dict[int, _Track] = {}
        self._people: list[_Person] = []
        self._next_id = 1
        self._frames = 0
        self._horizon_s = 0.0  # time of the newest frame that was seen

    def see(self, faces: Sequence[TrackedFace], time_s: float, scene: int) -> None:
        """Add the faces of the newest frame."""
        self._frames += 1
        self._horizon_s = time_s
        for face in faces:
            track = self._tracks.get(face.track_id)
            if track is None:
                self._tracks[face.track_id] = _Track(scene, time_s, time_s, 1, face, face)
            else:
                track.last_s, track.last = max(time_s, track.last_s), face
                track.sightings += 1

    def see_earlier(self, face: TrackedFace, time_s: float) -> None:
        """Add a face in an earlier frame, found by following it back from the newest one."""
        track = self._tracks[face.track_id]
        track.sightings += 1
        if time_s < track.first_s:
            track.first_s, track.first = time_s, face

    def assign_ids(self, faces: Sequence[TrackedFace], time_s: float) -> list[int | None]:
        """Return the ids of the faces of the next frame to hand out; None for faces that are not shown.

        Args:
            faces: All faces of that frame.
            time_s: Time of the frame.
        """
        tracks = [self._tracks[face.track_id] for face in faces]
        for track in tracks:
            track.confirmed = track.confirmed or self._is_confirmed(track)
            _reclaim_person(track, time_s)
        new = [track for track in tracks if track.confirmed and track.person is None]
        for track, person in self._match_lost_people(new):
            track.person, person.track = person, track
        for track in sorted(new, key=lambda track: float(track.first.box_xyxy[0])):
            if track.person is None:
                track.person = _Person(
                    self._next_id, track, time_s, track.first, (time_s, track.first.box_xyxy)
                )
                self._next_id += 1
                self._people.append(track.person)
        ids: list[int | None] = []
        for face, track in zip(faces, tracks, strict=True):
            ids.append(None if track.person is None else track.person.id)
            if track.person is not None:
                _update_person(track.person, face, time_s)
        self._forget(time_s)
        return ids

    def _is_confirmed(self, track: _Track) -> bool:
        if track.sightings < CONFIRMED_SIGHTINGS:
            return self._frames == 1 and self._confirmed_s > 0  # a recording of a single frame
        seen_s = track.last_s - track.first_s
        # At the end of a recording, a face may be seen up to the last frame and can't be seen for longer.
        runs_out = track.last_s >= self._horizon_s and self._horizon_s - track.first_s < self._confirmed_s
        return seen_s >= self._confirmed_s - 1e-6 or runs_out

    def _match_lost_people(self, tracks: Sequence[_Track]) -> list[tuple[_Track, _Person]]:
        """Return the new tracks that are lost people, each with its person, the most similar first."""
        candidates = []
        for track in tracks:
            looks = [likeness(track.last.looks, person.face.looks) for person in self._people]
            possible = [_may_be_same(track, person) for person in self._people]
            for index in np.flatnonzero(possible):
                margins = [LIKELIER_BY if can_be else 0.0 for can_be in possible]
                margins[index] = 0.0
                needed = max(look + margin for look, margin in zip(looks, margins, strict=True))
                if looks[index] >= max(needed, SAME_LIKENESS):
                    candidates.append((looks[index], track, self._people[index]))
        pairs: list[tuple[_Track, _Person]] = []
        for _, track, person in sorted(candidates, key=lambda pair: -pair[0]):
            if all(track is not one and person is not other for one, other in pairs):
                pairs.append((track, person))
        return pairs

    def _forget(self, time_s: float) -> None:
        """Forget people and tracks that can't come back."""
        self._people = [person for person in self._people if abs(time_s - person.shown_s) <= REMEMBERED_S]
        if len(self._tracks) > 64 or self._frames % 64 == 0:
            self._tracks = {
                track_id: track
                for track_id, track in self._tracks.items()
                if abs(time_s - track.last_s) <= FORGET_TRACK_S
            }


def _reclaim_person(track: _Track, time_s: float) -> None:
    """Decide who a track is that returns after another track took over its person.

    It gets the person back unless the other track is in sight. Then it is a new person.
    """
    if track.person is not None and track.person.track is not track:
        if track.person.track.last_s >= time_s:
            track.person = None
        else:
            track.person.track = track


def _update_person(person: _Person, face: TrackedFace, time_s: float) -> None:
    if time_s - person.earlier[0] > PACE_S:
        person.earlier = person.shown_s, person.face.box_xyxy
    person.shown_s, person.face = time_s, face


def _may_be_same(track: _Track, person: _Person) -> bool:
    """Return whether a track may be a lost person, by time, place and size."""
    away_s = track.first_s - person.track.last_s
    if not 0 < away_s <= REMEMBERED_S or track.scene != person.track.scene:
        return False
    last, found = person.face.box_xyxy, track.first.box_xyxy
    side, found_side = float((last[2:] - last[:2]).max()), float((found[2:] - found[:2]).max())
    if min(side, found_side) < REGAIN_SIZE_RATIO * max(side, found_side):
        return False
    last_xy, found_xy = (last[:2] + last[2:]) / 2, (found[:2] + found[2:]) / 2
    earlier_s, earlier = person.earlier
    pace = (last_xy - (earlier[:2] + earlier[2:]) / 2) / max(person.shown_s - earlier_s, 1e-3)
    walk = pace * min(away_s, LONGEST_WALK_S) if person.shown_s > earlier_s else 0 * pace
    # Measure from the nearest point of the line that the person may have walked since.
    share = float(np.clip((found_xy - last_xy) @ walk / max(float(walk @ walk), 1e-6), 0, 1))
    distance = float(np.linalg.norm(found_xy - last_xy - share * walk))
    return distance <= max(side, found_side) * (REACH + REACH_PER_S * away_s)
