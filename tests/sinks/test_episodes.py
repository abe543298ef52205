"""`--episodes`: turning readings into stretches, and the three formats."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from helpers.contexts import make_context, make_info
from helpers.faces import make_face, make_frame, make_frames
from helpers.paths import ROOT, SAMPLE
from helpers.tables import csv_rows
from helpers.videos import times_of

from fer_stream.errors import OutputError, UsageError
from fer_stream.sinks import EPISODE_COLUMNS, EpisodesSink
from fer_stream.sinks.episodes import Episode, EpisodeBuilder
from fer_stream.sinks.provenance import Provenance


def built(labels: list[dict[int, str]], *, rate: float = 10.0) -> list[tuple[int, float, float, str]]:
    builder = EpisodeBuilder(1 / rate)
    for frame in make_frames(labels, rate=rate):
        builder.add(frame)
    return [brief(episode) for episode in builder.episodes()]


def brief(episode: Episode) -> tuple[int, float, float, str]:
    return episode.face_id, round(episode.start_s, 3), round(episode.end_s, 3), episode.expression


def shown(*runs: tuple[str, int]) -> list[dict[int, str]]:
    """Return frames with one face. An empty label means a frame without it."""
    return [{1: label} if label else {} for label, count in runs for _ in range(count)]


def test_a_stretch_lasts_until_the_next_one_or_the_end_of_its_last_frame():
    assert built(shown(("happy", 10), ("sad", 5))) == [(1, 0.0, 1.0, "happy"), (1, 1.0, 1.5, "sad")]


def test_a_short_stretch_joins_its_longer_neighbour():
    assert built(shown(("happy", 10), ("fear", 2), ("sad", 5))) == [
        (1, 0.0, 1.2, "happy"),
        (1, 1.2, 1.7, "sad"),
    ]
    assert built(shown(("happy", 4), ("fear", 2), ("sad", 9)))[1] == (1, 0.4, 1.5, "sad")


def test_a_short_stretch_between_two_of_one_expression_joins_them():
    assert built(shown(("happy", 4), ("fear", 1), ("happy", 4))) == [(1, 0.0, 0.9, "happy")]


def test_three_tenths_of_a_second_are_long_enough():
    assert len(built(shown(("happy", 4), ("fear", 3), ("happy", 4)))) == 3


def test_flicker_between_two_expressions_becomes_one_stretch():
    flicker = shown(*[("happy" if index % 2 else "sad", 1) for index in range(20)])
    episodes = built(flicker + shown(("fear", 10)))
    assert [label for *_, label in episodes][-1] == "fear"
    assert all(end_s - start_s >= 0.3 for _, start_s, end_s, _ in episodes)


def test_a_face_that_is_seen_for_a_moment_keeps_its_short_stretch():
    assert built(shown(("", 5), ("happy", 2), ("", 20))) == [(1, 0.5, 0.7, "happy")]


def test_unsure_is_an_expression_of_its_own():
    assert [label for *_, label in built(shown(("happy", 5), ("unsure", 5)))] == ["happy", "unsure"]


def test_a_gap_of_more_than_half_a_second_splits():
    """The gap begins where the last frame with the face ends."""
    assert built(shown(("happy", 5), ("", 4), ("happy", 5))) == [(1, 0.0, 1.4, "happy")]
    assert built(shown(("happy", 5), ("", 5), ("happy", 5))) == [(1, 0.0, 1.5, "happy")]
    assert built(shown(("happy", 5), ("", 6), ("happy", 5))) == [
        (1, 0.0, 0.5, "happy"),
        (1, 1.1, 1.6, "happy"),
    ]


@pytest.mark.parametrize("rate", [5.0, 12.5, 25.0, 60.0])
def test_the_same_absence_splits_at_every_frame_rate(rate):
    """Two stretches of one expression lie more than half a second apart, and no frame less."""
    longest = int(0.5 * rate + 1e-6)  # frames that pass in half a second
    frames = round(rate)
    assert len(built(shown(("happy", frames), ("", longest), ("happy", frames)), rate=rate)) == 1
    first, second = built(shown(("happy", frames), ("", longest + 1), ("happy", frames)), rate=rate)
    assert second[1] - first[2] > 0.5


def test_a_short_stretch_does_not_join_across_a_gap():
    assert built(shown(("happy", 9), ("", 8), ("sad", 2))) == [
        (1, 0.0, 0.9, "happy"),
        (1, 1.7, 1.9, "sad"),
    ]


def test_a_slow_frame_rate_makes_no_gaps():
    assert built(shown(("happy", 6)), rate=1.0) == [(1, 0.0, 6.0, "happy")]


def test_a_hole_in_the_recording_splits():
    builder = EpisodeBuilder(0.04)
    for time_s in [index * 0.04 for index in range(25)] + [10 + index * 0.04 for index in range(25)]:
        builder.add(make_frame(0, time_s, make_face(1, "happy")))
    assert [brief(each)[1:3] for each in builder.episodes()] == [(0.0, 1.0), (10.0, 11.0)]


def test_mean_and_maximum_confidence_come_from_the_readings():
    builder = EpisodeBuilder(0.1)
    for index, confidence in enumerate([0.5, 0.9, 0.7, 0.7]):
        builder.add(make_frame(index, index / 10, make_face(1, "happy", confidence)))
    (episode,) = builder.episodes()
    assert episode.confidence_mean == pytest.approx(0.7)
    assert episode.confidence_max == pytest.approx(0.9)


@pytest.mark.parametrize("seed", range(5))
def test_stretches_of_any_face_cover_it_and_do_not_overlap(seed):
    rng = random.Random(seed)
    labels: list[dict[int, str]] = []
    current = {1: "happy", 2: "sad", 3: "unsure"}
    for _ in range(600):
        for face_id in current:
            if rng.random() < 0.25:
                current[face_id] = rng.choice(["happy", "sad", "fear", "unsure", "", ""])
        labels.append({face_id: label for face_id, label in current.items() if label})
    episodes = built(labels)
    for face_id in current:
        mine = [(start_s, end_s) for each, start_s, end_s, _ in episodes if each == face_id]
        assert all(end_s <= start_s for (_, end_s), (start_s, _) in pairwise(mine))
        for index, frame in enumerate(labels):
            if face_id in frame:
                time_s = round(index / 10, 3)
                assert any(start_s <= time_s < end_s for start_s, end_s in mine), (face_id, time_s)
        split = [later[0] - earlier[1] > 0.3 for earlier, later in pairwise(mine)]
        alone = [True, *split], [*split, True]
        for (start_s, end_s), before, after in zip(mine, *alone, strict=True):
            assert end_s - start_s > 0.299 or (before and after)


# The files


def write(path: Path, frames, info=None, **context) -> EpisodesSink:
    info = info or make_info()
    with EpisodesSink(path, info) as sink:
        sink.begin(make_context(info, **context))
        for frame in frames:
            sink.write(frame)
    return sink


def test_csv_has_the_columns_and_the_times_of_the_source(tmp_path):
    info = replace(make_info(), start_s=60.0)
    frames = make_frames(shown(("happy", 10)) + [{2: "sad"}] * 5, start_s=60.0)
    sink = write(tmp_path / "e.csv", frames, info, saved_video=tmp_path / "clip.mp4")
    assert sink.outputs() == [tmp_path / "e.csv"]
    rows = csv_rows(tmp_path / "e.csv")
    assert tuple(rows[0]) == EPISODE_COLUMNS
    assert [(row["face_id"], float(row["start_s"]), float(row["end_s"])) for row in rows] == [
        ("1", 60.0, 61.0),
        ("2", 61.0, 61.5),
    ]
    assert rows[0]["source"] == "clip.mp4" and float(rows[0]["confidence_mean"]) == pytest.approx(0.88)


def test_vtt_times_are_those_of_the_saved_video(tmp_path):
    info = replace(make_info(), start_s=60.0)
    frames = list(make_frames([{1: "happy", 2: "sad"}] * 10 + [{1: "sad"}] * 5, start_s=60.04))
    write(tmp_path / "saved.vtt", frames, info, saved_video=tmp_path / "clip.mp4")
    text = (tmp_path / "saved.vtt").read_text()
    assert text.startswith("WEBVTT\n")
    assert "00:00:00.000 --> 00:00:01.000\nPerson 1: happy\n" in text
    assert "00:00:01.000 --> 00:00:01.500\nPerson 1: sad\n" in text
    assert text.index("Person 1: happy") < text.index("Person 2: sad") < text.index("Person 1: sad")
    write(tmp_path / "source.vtt", frames, info)  # beside the source itself
    assert "00:01:00.040 --> 00:01:01.040\nPerson 1: happy\n" in (tmp_path / "source.vtt").read_text()


def test_vtt_times_without_a_saved_video_are_those_that_players_show(tmp_path):
    """mpv takes the start of the clock as 0, but not in an MP4."""
    for name, start in (("a.ts", "00:00:00.500"), ("a.mp4", "01:00:00.500")):
        info = make_info(name=name, clock_starts_s=3600.0)
        write(tmp_path / f"{name}.vtt", make_frames([{1: "happy"}] * 10, start_s=3600.5), info)
        assert f"{start} --> " in (tmp_path / f"{name}.vtt").read_text()


def test_eaf_follows_elans_schema_and_links_the_video(tmp_path):
    etree = pytest.importorskip("lxml.etree", reason="needs lxml, of the extra test")
    from pympi import Eaf

    (tmp_path / "a & b").mkdir()
    video = tmp_path / "a & b" / "é 100%.mp4"
    frames = make_frames([{1: "happy", 2: "unsure"}] * 10 + [{1: "sad"}] * 5)
    write(tmp_path / "e.eaf", frames, saved_video=video, provenance=Provenance(version="9.9"))
    schema = etree.XMLSchema(etree.parse(ROOT / "tests" / "data" / "EAFv3.0.xsd"))
    schema.assertValid(etree.parse(tmp_path / "e.eaf"))
    eaf = Eaf(str(tmp_path / "e.eaf"))
    assert set(eaf.get_tier_names()) == {"Person 1", "Person 2"}
    assert [each[:3] for each in sorted(eaf.get_annotation_data_for_tier("Person 1"))] == [
        (0, 1000, "happy"),
        (1000, 1500, "sad"),
    ]
    (linked,) = eaf.get_linked_files()
    assert unquote(linked["RELATIVE_MEDIA_URL"]) == "./a & b/é 100%.mp4"
    assert unquote(linked["MEDIA_URL"]) == f"file://{video}" and linked["MIME_TYPE"] == "video/mp4"


@pytest.mark.usefixtures("different_drives")
def test_eaf_links_a_video_on_another_drive_by_its_full_address(tmp_path):
    write(tmp_path / "e.eaf", make_frames([{1: "happy"}] * 10), saved_video=tmp_path / "a.mp4")
    eaf = (tmp_path / "e.eaf").read_text()
    assert f'MEDIA_URL="{tmp_path.as_uri()}/a.mp4"' in eaf and "RELATIVE_MEDIA_URL" not in eaf


def test_a_recording_without_faces_gives_an_empty_list(tmp_path):
    for name in ("e.csv", "e.vtt", "e.eaf"):
        write(tmp_path / name, make_frames([{}] * 3))
    assert (tmp_path / "e.csv").read_text() == ",".join(EPISODE_COLUMNS) + "\n"
    assert (tmp_path / "e.vtt").read_text().startswith("WEBVTT")
    assert "<TIER" not in (tmp_path / "e.eaf").read_text()


def test_a_wrong_path_or_source_is_found_at_once(tmp_path):
    with pytest.raises(UsageError, match=r"\.csv, \.vtt or \.eaf"):
        EpisodesSink(tmp_path / "e.txt", make_info())
    with pytest.raises(UsageError, match="--data for pictures"):
        EpisodesSink(tmp_path / "e.csv", make_info(kind="images"))
    (tmp_path / "e.csv").write_text("precious")
    with pytest.raises(OutputError, match="--overwrite"):
        EpisodesSink(tmp_path / "e.csv", make_info())
    assert (tmp_path / "e.csv").read_text() == "precious"


def test_an_existing_elan_file_is_replaced_and_not_renamed(tmp_path):
    (tmp_path / "e.eaf").write_text("old")
    info = make_info()
    with EpisodesSink(tmp_path / "e.eaf", info, overwrite=True) as sink:
        sink.begin(make_context(info))
        sink.write(make_frame(0, 0.0, make_face(1, "happy")))
    assert [path.name for path in tmp_path.iterdir()] == ["e.eaf"]
    assert "Person 1" in (tmp_path / "e.eaf").read_text()


def test_the_command_writes_episodes_that_agree_with_its_table(fer, loaded, tmp_path):
    said = fer(
        SAMPLE,
        "--start",
        5,
        "--end",
        6.5,
        "--data",
        "t.csv",
        "--episodes",
        "e.csv",
        "--save",
        "clip.mp4",
        "--quiet",
    )
    assert said.code == 0, said.err
    episodes = csv_rows("e.csv")
    rows = [row for row in csv_rows("t.csv") if row["face_id"]]
    assert {row["face_id"] for row in rows} == {row["face_id"] for row in episodes}
    for row in rows:
        time_s = float(row["time_s"])
        covering = [
            each
            for each in episodes
            if each["face_id"] == row["face_id"] and float(each["start_s"]) <= time_s < float(each["end_s"])
        ]
        assert len(covering) == 1
    assert max(float(each["end_s"]) for each in episodes) <= 5 + float(max(times_of(Path("clip.mp4")))) + 0.1
