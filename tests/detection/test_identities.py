"""Ids are people: a person who comes back keeps the id, and nobody gets another person's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from helpers.tracks import tracked

from fer_stream.detection.identities import REMEMBERED_S, Identities
from fer_stream.detection.tracker import TrackedFace

FRAMES_PER_S = 25


def names(
    faces_at: Callable[[int], list[TrackedFace]], frames: int, scene_at: Callable[[int], int] = lambda _: 0
) -> list[list[int | None]]:
    """Return the ids of each frame, with a look-ahead of half a second."""
    identities, given, ahead = Identities(), [], FRAMES_PER_S // 2
    for index in range(frames + ahead):
        if index < frames:
            identities.see(faces_at(index), index / FRAMES_PER_S, scene_at(index))
        if index >= ahead:
            given.append(identities.assign_ids(faces_at(index - ahead), (index - ahead) / FRAMES_PER_S))
    return given


def away_and_back(away_s: float, back: TrackedFace, scene: int = 0) -> list[int | None]:
    """Return the ids before and after a face at (100, 100) is out of sight. Another face stays in sight."""
    gone, returns = 20, 20 + round(away_s * FRAMES_PER_S)

    def faces_at(index: int) -> list[TrackedFace]:
        stays = [tracked(2, 600.0, looks=2)]
        return stays + [tracked(1)] * (index < gone) + [back] * (index >= returns)

    given = names(faces_at, returns + 20, lambda index: scene * (index >= returns))
    return [given[5][1], given[-1][1]]


@pytest.mark.parametrize("away_s", [0.6, 2.5, 3.0])
def test_a_face_that_was_hidden_keeps_its_id(away_s: float) -> None:
    assert away_and_back(away_s, tracked(9, 130.0, looks=1)) == [1, 1]


@pytest.mark.parametrize(
    ("away_s", "back", "scene"),
    [
        (2.5, tracked(9, looks=3), 0),  # looks different
        (2.5, tracked(9, looks=1, side=110.0), 0),  # is much nearer
        (2.5, tracked(9, 420.0, looks=1), 0),  # is far away
        (REMEMBERED_S + 0.5, tracked(9, looks=1), 0),  # is long gone
        (1.0, tracked(9, looks=1), 1),  # comes after a cut
    ],
)
def test_a_doubtful_return_gets_a_new_id(away_s: float, back: TrackedFace, scene: int) -> None:
    assert away_and_back(away_s, back, scene) == [1, 3]


def test_a_face_that_could_be_either_of_two_people_gets_a_new_id() -> None:
    def faces_at(index: int) -> list[TrackedFace]:
        if index < 20:
            return [tracked(1, 100.0, looks=1), tracked(2, 150.0, looks=1)]
        return [tracked(9, 125.0, looks=1)] if index >= 50 else []

    assert names(faces_at, 70)[-1] == [3]


def test_the_id_of_a_person_in_sight_is_not_given_away() -> None:
    given = names(lambda index: [tracked(1)] + [tracked(9, 120.0, looks=1)] * (index >= 30), 60)
    assert given[-1] == [1, 2]


def test_a_track_whose_person_has_another_track_in_sight_is_somebody_new() -> None:
    def faces_at(index: int) -> list[TrackedFace]:
        if index < 20:
            return [tracked(1)]
        return [tracked(9, 120.0, looks=1)] * (index >= 40) + [tracked(1)] * (index >= 60)

    assert names(faces_at, 80)[-1] == [1, 2]


def test_ids_count_from_one_without_gaps_from_left_to_right() -> None:
    def faces_at(index: int) -> list[TrackedFace]:
        passing = [tracked(50 + index, 900.0, looks=5)]  # seen in one frame each
        return (
            passing
            + [tracked(4, 500.0), tracked(2, 100.0)] * (index >= 3)
            + [tracked(3, 300.0)] * (index >= 9)
        )

    given = names(faces_at, 40)
    assert given[5] == [None, 2, 1]
    assert given[20] == [None, 2, 1, 3]


def test_a_long_video_of_passers_by_takes_no_more_memory() -> None:
    identities = Identities()
    for index in range(5000):
        face = tracked(index // 25, 100.0 + 300 * (index // 25 % 2))
        identities.see([face], index / FRAMES_PER_S, 0)
        identities.assign_ids([face], index / FRAMES_PER_S)
    assert len(identities._tracks) < 70 and len(identities._people) < 10
