"""Find recordings: files, folders, globs, lists and addresses."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs the extra batch: pip install '.[batch]'")
pytest.importorskip("fsspec")

import fsspec

from fer_stream.batch import cli, work
from fer_stream.batch.addresses import shown
from fer_stream.batch.inputs import Recording, find_recordings, local_copy, read_list
from fer_stream.batch.manifest import Record, read_manifest, write_manifest
from fer_stream.batch.output_folder import Output
from fer_stream.batch.parts import Header
from fer_stream.batch.settings import Settings
from fer_stream.errors import SourceError, UsageError
from fer_stream.sources.video import VideoSource


def test_each_recording_is_found_once_by_file_folder_glob_or_list(tmp_path, clip):
    for name in ("b/deep/two.MOV", "b/one.mp4", "b/.hidden.mp4", "b/notes.txt", "c/three.mkv", "odd.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    listed = tmp_path / "list.txt"
    listed.write_text(f"# mine\n\n{tmp_path}/odd.bin\n{tmp_path}/b/one.mp4\n")
    found = find_recordings([str(tmp_path / "c" / "*.mkv"), str(tmp_path / "b"), *read_list(str(listed))])
    assert [Path(recording.name).name for recording in found] == [
        "three.mkv",
        "one.mp4",
        "two.MOV",
        "odd.bin",
    ]
    assert all(Path(recording.name).is_absolute() for recording in found)


def test_a_missing_file_in_a_list_does_not_stop_the_others(tmp_path, clip):
    missing = str(tmp_path / "none.mp4")
    found = find_recordings([], listed=[missing, str(clip), "memory://none/a.mp4"])
    assert [each.name for each in found] == [missing, str(clip), "memory://none/a.mp4"]
    for each in (found[0], found[2]):
        with pytest.raises(SourceError, match=each.name), local_copy(each):
            pass
    for arguments in (([missing], [str(clip)]), ([], [missing, missing])):
        with pytest.raises(SourceError, match="no such file"):
            find_recordings(arguments[0], listed=arguments[1])


def test_a_very_long_line_in_a_list_gives_a_short_message(tmp_path, capsys):
    listed = tmp_path / "list.txt"
    listed.write_text("x" * 2_000_000)
    assert cli.main(["--from-file", str(listed), "--output", str(tmp_path / "out")]) == 3
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and len(err) < 5000


def test_a_huge_list_is_refused(tmp_path):
    path = tmp_path / "list.txt"
    with path.open("wb") as file:
        file.truncate(100 * 2**20)
    with pytest.raises(SourceError, match="MiB"):
        read_list(str(path))


def test_a_list_at_an_address_needs_the_same_packages_as_recordings_there(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    errors = []
    for arguments in (("--from-file", "s3://bucket/list.txt"), ("s3://bucket/a.mp4",)):
        assert cli.main([*arguments, "--output", str(tmp_path / "out")]) == 2
        errors.append(capsys.readouterr().err)
    assert errors[0] == errors[1] and "pip install 'fsspec[s3]'" in errors[0]


def test_outputs_inside_the_input_folder_are_not_analyzed(tmp_path):
    for name in ("a.mp4", "out/videos/a-0123456789abcdef.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = find_recordings([str(tmp_path)], leave_out=str(tmp_path / "out"))
    assert [recording.name for recording in found] == [str(tmp_path / "a.mp4")]


@pytest.mark.parametrize("is_remote", [False, True])
def test_recordings_in_the_output_folder_are_analyzed_but_not_annotated_videos(is_remote, tmp_path):
    folder = f"memory://{tmp_path.name}" if is_remote else str(tmp_path)
    own, annotated = f"{folder}/videos/b.mp4", f"{folder}/videos/b-0123456789abcdef.mp4"
    for name in ("a.mp4", "monday/b.mp4", "tables/c.mp4", "videos/b.mp4", "videos/b-0123456789abcdef.mp4"):
        fs, path = fsspec.core.url_to_fs(f"{folder}/{name}")
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        fs.pipe_file(path, b"x")
    everything = [f"{folder}/a.mp4", f"{folder}/monday/b.mp4", f"{folder}/tables/c.mp4", own]
    for specs, expected in (
        ([folder], everything),
        ([f"{folder}/*.mp4"], everything[:1]),
        ([f"{folder}/videos/*"], [own]),
        ([annotated, own], [own]),  # as the shell expands videos/*
    ):
        found = find_recordings(specs, leave_out=folder)
        assert [recording.name for recording in found] == expected
    with pytest.raises(SourceError, match="only annotated videos"):
        find_recordings([annotated], leave_out=folder)


def test_an_input_that_matches_no_recording_is_refused(tmp_path):
    for spec in (str(tmp_path / "none.mp4"), str(tmp_path), str(tmp_path / "*.mp4"), "memory://none/a.mp4"):
        with pytest.raises(SourceError):
            find_recordings([spec])
    with pytest.raises(UsageError, match="nosuch"):
        find_recordings(["nosuch://bucket/a.mp4"])


def test_recordings_with_the_same_name_get_different_outputs(tmp_path):
    for folder in ("monday", "tuesday"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "Café: 1?.mp4").write_bytes(b"x")
    names = [recording.output_name for recording in find_recordings([str(tmp_path)])]
    assert len(set(names)) == 2 and all(name.startswith("Café_1_-") for name in names)


def test_a_remote_recording_is_copied_and_the_copy_is_removed(clip):
    memory = fsspec.filesystem("memory")
    for name in ("/archive/a.mp4", "/archive/deep/b.mp4"):
        memory.pipe_file(name, clip.read_bytes())
    found = find_recordings(["memory://archive"])
    assert [recording.name for recording in found] == [
        "memory://archive/a.mp4",
        "memory://archive/deep/b.mp4",
    ]
    assert [recording.name for recording in find_recordings(["memory://archive/*.mp4"])] == [found[0].name]
    with local_copy(found[0]) as path:
        assert path.read_bytes() == clip.read_bytes()
    assert not path.exists() and not path.parent.exists()
    before = found[0].stamp
    time.sleep(0.01)
    memory.pipe_file("/archive/a.mp4", clip.read_bytes() + b"more")
    assert find_recordings(["memory://archive/a.mp4"])[0].stamp != before


def test_recordings_whose_shown_addresses_are_equal_stay_apart(tmp_path):
    memory = fsspec.filesystem("memory")
    for day in (1, 2):
        memory.pipe_file(f"/days/session={day}/a.mp4", b"x")
    found = find_recordings(["memory://days"], leave_out="memory://days/session=3")
    assert [recording.name for recording in found] == [f"memory://days/session={day}/a.mp4" for day in (1, 2)]
    inputs = ("ftp://ann:pw@host/a.mp4", "ftp://bob:a/b@host/a.mp4", "zip://a.mp4::ftp://bob:pw@host/b.zip")
    inputs += ("zip://b.mp4::ftp://bob:pw@host/b.zip", "https://host/get?key=1", "https://host/get?key=2")
    recordings = [Recording(address, shown(address), 1, "") for address in inputs]
    assert len({recording.output_name for recording in recordings}) == len(inputs)
    assert all("pw" not in recording.name and "bob" not in recording.name for recording in recordings)
    assert recordings[2].name == "zip://a.mp4::ftp://host/b.zip"
    assert recordings[4].name == "https://host/get"
    output = Output(str(tmp_path))
    write_manifest(
        output, [Record(each.name, output_name=each.output_name) for each in recordings], Settings("0")
    )
    assert len(read_manifest(output)[0]) == len(inputs)
    other_password = Recording("ftp://ann:new@host/a.mp4", shown(inputs[0]), 1, "")
    assert other_password.output_name == recordings[0].output_name


def test_recordings_that_differ_only_in_a_query_get_a_number():
    memory = fsspec.filesystem("memory")
    for name in ("a.mp4?id=1", "a.mp4?id=2"):
        memory.pipe_file(f"/cameras/{name}", b"x")
    found = find_recordings(["memory://cameras/a.mp4?id=1", "memory://cameras/a.mp4?id=2"])
    assert [each.name for each in found] == ["memory://cameras/a.mp4 (1)", "memory://cameras/a.mp4 (2)"]


def test_a_copy_that_does_not_fit_is_not_started(monkeypatch):
    fsspec.filesystem("memory").pipe_file("/full/a.mp4", b"x" * 100)
    recording = find_recordings(["memory://full/a.mp4"])[0]
    usage = type("Usage", (), {"free": 2**30})
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: usage)
    with pytest.raises(SourceError, match="TMPDIR"), local_copy(recording):
        pass


def test_file_addresses_are_paths_and_read_in_place(clip):
    (recording,) = find_recordings([f"file://{clip}"])
    assert recording.name == str(clip)
    with local_copy(recording) as path:
        assert path == clip


@pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links")
def test_linked_folders_are_searched_once(tmp_path):
    archive, disk = tmp_path / "archive", tmp_path / "disk"
    paths = (archive / "a.mp4", archive / "real" / "b.mp4", disk / "deep" / "c.mp4", tmp_path / "other.mp4")
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for name, target in {"1": "../disk", "2": "../disk/deep", "3": "real", "up": "..", "none": "0"}.items():
        (archive / name).symlink_to(target)
    found = [Path(recording.name).relative_to(archive) for recording in find_recordings([str(archive)])]
    assert [path.as_posix() for path in found] == ["a.mp4", "real/b.mp4", "1/deep/c.mp4"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_a_dead_link_does_not_stop_the_others(tmp_path, clip):
    archive = tmp_path / "archive"
    archive.mkdir()
    shutil.copy(clip, archive / "good.mp4")
    os.mkfifo(archive / "pipe.mp4")
    (archive / "loop.mp4").symlink_to(archive / "loop.mp4")
    (archive / "dead.mp4").symlink_to("none.mp4")
    names = ["dead.mp4", "good.mp4", "loop.mp4", "pipe.mp4"]
    for spec in (archive, archive / "*.mp4"):
        found = {Path(recording.name).name: recording for recording in find_recordings([str(spec)])}
        assert sorted(found) == names
    for name, reason in (("pipe.mp4", "is a pipe"), ("loop.mp4", "symbolic links"), ("dead.mp4", "No such")):
        assert work.read_header(None, found[name]) == Header()
        with pytest.raises(SourceError, match=reason), local_copy(found[name]) as path:
            VideoSource(path, name=name, mirror=False)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are not UTF-8")
def test_a_name_that_is_not_utf8_can_be_written_to_a_table(tmp_path, clip):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.mp4")
    shutil.copy(clip, path)
    (recording,) = find_recordings([path])
    assert recording.name.encode().endswith(b".mp4") and recording.output_name.encode()
    with local_copy(recording) as copied:
        VideoSource(copied, name=recording.name, mirror=False).close()
