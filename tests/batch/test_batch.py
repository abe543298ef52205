"""fer-batch: choosing recordings, joining parts, repeating work, and losing a worker."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers.checkpoints import save_small_checkpoint
from helpers.paths import SAMPLE

pytest.importorskip("ray", reason="needs Ray: pip install 'fer-stream[ray]'")
pa = pytest.importorskip("pyarrow")
fsspec = pytest.importorskip("fsspec")

import pyarrow.parquet as pq  # noqa: E402

from fer_stream.batch import cli, work  # noqa: E402
from fer_stream.batch.archive import estimate  # noqa: E402
from fer_stream.batch.inputs import Recording, find_recordings, local_copy, read_list, shown  # noqa: E402
from fer_stream.batch.manifest import Record, finished, read_manifest, write_manifest  # noqa: E402
from fer_stream.batch.outputs import Output  # noqa: E402
from fer_stream.batch.parts import WHOLE, Look, Part, cut, join, look  # noqa: E402
from fer_stream.batch.settings import Settings  # noqa: E402
from fer_stream.batch.tables import TableWriter  # noqa: E402
from fer_stream.command import cli as single  # noqa: E402
from fer_stream.errors import OutputError, SourceError, UsageError, WeightsError  # noqa: E402
from fer_stream.expressions import EXPRESSIONS, LABELS  # noqa: E402
from fer_stream.recognition.weights import BUILT_IN_WEIGHTS  # noqa: E402
from fer_stream.sinks.table import table_schema  # noqa: E402
from fer_stream.sources.video import VideoSource  # noqa: E402
from fer_stream.system.files import file_hash  # noqa: E402

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
linux = pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc")
WAIT_S = 120


def write_clip(
    path: Path, picture_bgr: np.ndarray, frames: int, size_wh: tuple[int, int] = (160, 192), rate: int = 10
) -> Path:
    """Write a clip of a picture that moves a little, with a keyframe every ten frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = cv2.resize(picture_bgr, size_wh, interpolation=cv2.INTER_AREA)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=rate, options={"g": "10", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size_wh, "yuv420p"
        for index in range(frames):
            moved = np.ascontiguousarray(np.roll(small, index % 7, axis=1))
            frame = av.VideoFrame.from_ndarray(moved, format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory, hopper_bgr) -> Path:
    """A clip of Grace Hopper, 1.2 s long."""
    return write_clip(tmp_path_factory.mktemp("clip") / "hopper.mp4", hopper_bgr, 12)


@pytest.fixture
def settings(analyzer) -> Settings:
    """The default settings, once the networks are loaded."""
    return Settings(file_hash(BUILT_IN_WEIGHTS))


@dataclass
class Said:
    """The output of a run."""

    code: int
    out: str
    err: str


@pytest.fixture
def batch(capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run the command in this process."""

    def run(*arguments: object) -> Said:
        capfd.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        return Said(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def cluster(analyzer) -> Iterator[object]:
    """A Ray cluster of two processes on this machine; the exported networks are there before it starts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        # A short path: the names of sockets end at about a hundred characters.
        folder = tempfile.mkdtemp(prefix="fer-ray-", dir="/tmp" if os.name == "posix" else None)
        patch.setenv("RAY_TMPDIR", folder)
        made = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 2,
                "num_gpus": 0,
                "object_store_memory": 100 * 2**20,
                "include_dashboard": False,
            },
        )
        yield made
        made.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def manifest(output: Path) -> dict[str, dict]:
    return {Path(row["source"]).name: row for row in pq.read_table(output / "manifest.parquet").to_pylist()}


# Which recordings.


def test_recordings_are_found_by_file_folder_glob_and_list_each_once(tmp_path, clip):
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


def test_an_endless_line_of_a_list_is_a_short_message(tmp_path, capsys):
    listed = tmp_path / "list.txt"
    listed.write_text("x" * 2_000_000)
    assert cli.main(["--from-file", str(listed), "--output", str(tmp_path / "out")]) == 3
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and len(err) < 5000


def test_outputs_within_the_input_folder_are_no_input(tmp_path):
    for name in ("a.mp4", "out/videos/a-1.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = find_recordings([str(tmp_path)], leave_out=str(tmp_path / "out"))
    assert [recording.name for recording in found] == [str(tmp_path / "a.mp4")]


def test_what_stands_for_nothing_is_refused(tmp_path):
    for spec in (str(tmp_path / "none.mp4"), str(tmp_path), str(tmp_path / "*.mp4"), "memory://none/a.mp4"):
        with pytest.raises(SourceError):
            find_recordings([spec])
    with pytest.raises(UsageError, match="nosuch"):
        find_recordings(["nosuch://bucket/a.mp4"])


def test_recordings_of_the_same_name_have_outputs_of_their_own(tmp_path):
    for folder in ("monday", "tuesday"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "Café: 1?.mp4").write_bytes(b"x")
    names = [recording.output_name for recording in find_recordings([str(tmp_path)])]
    assert len(set(names)) == 2 and all(name.startswith("Café_1_-") for name in names)


def test_recordings_of_another_file_system_are_copied_for_the_time_and_the_copy_is_removed(clip):
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


def test_recordings_that_look_the_same_when_shown_are_all_done(tmp_path):
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


def test_a_copy_that_does_not_fit_is_not_begun(monkeypatch):
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


# Parts.


def test_only_what_can_be_entered_anywhere_is_cut():
    long = Look(first_s=0.5, duration_s=100, can_be_cut=True)
    parts = cut(long, 30, 6)
    assert [round(part.start_s, 3) for part in parts] == [0, 33.833, 67.167]
    assert [part.end_s for part in parts] == [parts[1].start_s, parts[2].start_s, None]
    assert [round(part.start_s - part.from_s, 3) for part in parts] == [0, 6, 6]
    assert cut(Look(0, 100, can_be_cut=False), 30, 6) == [WHOLE]
    assert cut(Look(0, 59, can_be_cut=True), 30, 6) == [WHOLE]
    assert len(cut(long, 30, 50)) == 2  # a part is no shorter than its warm-up


def test_what_names_other_files_is_not_followed(clip, tmp_path):
    script = tmp_path / "list.mp4"
    shutil.copy(clip, tmp_path / "hopper.mp4")
    script.write_text("ffconcat version 1.0\nfile hopper.mp4\n")
    assert look(clip).duration_s > 0 and look(script) == Look()
    with clip.open("rb") as video:
        assert look(video).duration_s > 0
    with script.open("rb") as named:
        assert look(named) == Look()


def rows(faces: dict[int, dict[int, float]], first_frame: int = 0) -> pa.Table:
    """Return a table at 10 frames per second, with a face of 10 px at x for each frame and id."""
    lines = []
    for index, (frame, there) in enumerate(faces.items()):
        start = {"source": "a", "frame": first_frame + index, "time_s": frame / 10}
        for face_id, x in there.items():
            place = {"face_id": face_id, "x1": x, "y1": 0.0, "x2": x + 10, "y2": 10.0}
            lines.append(start | place | {"expression": "sad"})
        if not there:
            lines.append(start)
    return pa.Table.from_pylist(lines, table_schema())


def test_joined_ids_go_on_and_count_in_order_of_appearance():
    first = rows({0: {1: 0.0}, 1: {1: 0.0, 2: 50.0}, 2: {1: 1.0, 2: 50.0}})
    # The later part counts the right one as its first, sees the left one, and then two new ones.
    second = rows({1: {1: 50.0}, 2: {1: 51.0, 2: 1.0}, 3: {1: 52.0, 2: 2.0}, 4: {}, 5: {3: 80, 4: 99}}, 1)
    parts = [Part(0, 0, 0.25), Part(1, 0.25, None, 0.05)]
    tables = dict(zip(parts, (first, second), strict=True))
    joined = pa.concat_tables(join(parts, tables.__getitem__, "a"))
    seen = list(zip(*(joined[name].to_pylist() for name in ("frame", "face_id", "x1")), strict=True))
    assert seen[5:] == [(3, 1, 2.0), (3, 2, 52.0), (4, None, None), (5, 3, 80.0), (5, 4, 99.0)]


def test_frames_count_on_where_damage_hid_some_from_the_part_before():
    first, second = rows({0: {}, 1: {}, 3: {}}), rows({1: {}, 3: {}, 4: {}}, first_frame=1)
    shifted = rows({1: {}, 3: {}, 4: {}}, first_frame=7)
    parts = [Part(0, 0, 0.35), Part(1, 0.35, None, 0.05)]
    for later in (second, shifted):
        tables = dict(zip(parts, (first, later), strict=True))
        joined = pa.concat_tables(join(parts, tables.__getitem__, "a"))
        assert joined["frame"].to_pylist() == [0, 1, 2, 3]
    apart = dict(zip(parts, (first, rows({2: {}, 9: {}})), strict=True))
    with pytest.raises(SourceError, match="do not meet"):
        list(join(parts, apart.__getitem__, "a"))


def test_a_hole_across_a_cut_is_gone_over_as_in_one_pass():
    parts = [Part(0, 0, 0.35), Part(1, 0.35, None, 0.25)]
    tables = dict(zip(parts, (rows({0: {1: 0.0}, 1: {1: 0.0}}), rows({9: {1: 0.0}}, 2)), strict=True))
    joined = pa.concat_tables(join(parts, tables.__getitem__, "a"))
    assert joined["frame"].to_pylist() == [0, 1, 2] and joined["face_id"].to_pylist() == [1, 1, 2]


@pytest.mark.parametrize("name", ["portrait", "street", "sample"])
def test_a_recording_in_parts_gives_the_table_of_one_pass(name, shared_data, settings, tmp_path):
    video = SAMPLE if name == "sample" else next((shared_data / "videos").glob(f"{name}-*.mp4"))
    if name == "sample":  # the cut is after one of the two is back, and the part begins while both are there
        cut_s, warm_up_s = 5.5, 4.0
    elif name == "portrait":
        cut_s = 15.0
        warm_up_s = settings.warm_up_s
    else:  # a short part at a smaller size, to keep the test fast
        settings, cut_s, warm_up_s = replace(settings, min_face=18), 2.1, 2.0
        video = smaller(video, tmp_path / "street.mp4", (480, 270))
    (recording,) = find_recordings([str(video)])
    one, many = Output(str(tmp_path / "one")), Output(str(tmp_path / "many"))
    record = work.analyze(settings, None, recording, one)
    assert work.inspect(settings, recording).can_be_cut
    parts = [Part(0, 0, cut_s), Part(1, cut_s, None, cut_s - warm_up_s)]
    footers = [work.analyze_part(settings, None, recording, part, many) for part in parts]
    joined = work.join_parts(settings, recording, parts, footers, many)
    assert (joined.frames, joined.faces, joined.hash) == (record.frames, record.faces, record.hash)
    assert joined.label_s == pytest.approx(record.label_s, abs=1e-5)
    assert record.faces > 3 if name == "street" else record.faces == {"portrait": 1, "sample": 2}[name]

    whole, pieced = (pq.read_table(tmp_path / folder / record.table) for folder in ("one", "many"))
    for column in ("source", "frame", "time_s", "face_id"):
        assert whole[column].equals(pieced[column]), column
    for column in ("x1", "y1", "x2", "y2"):
        np.testing.assert_allclose(whole[column].to_numpy(), pieced[column].to_numpy(), atol=0.02)
    for column in EXPRESSIONS:
        np.testing.assert_allclose(whole[column].to_numpy(), pieced[column].to_numpy(), atol=1e-4)


def smaller(video: Path, path: Path, size_wh: tuple[int, int]) -> Path:
    """Write a video in another size."""
    with av.open(str(video)) as container, av.open(str(path), "w") as out:
        rate = container.streams.video[0].average_rate
        stream = out.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "16"})
        stream.width, stream.height, stream.pix_fmt = *size_wh, "yuv420p"
        for frame in container.decode(video=0):
            out.mux(stream.encode(frame.reformat(*size_wh, format="yuv420p")))
        out.mux(stream.encode(None))
    return path


def test_parts_that_an_earlier_run_has_done_are_not_done_again(settings, clip, tmp_path, monkeypatch):
    (recording,) = find_recordings([str(clip)])
    output = Output(str(tmp_path))
    footer = work.analyze_part(settings, None, recording, WHOLE, output)
    monkeypatch.setattr(work, "load", lambda *_: pytest.fail("analyzed again"))
    assert work.analyze_part(settings, None, recording, WHOLE, output) == footer


def test_a_file_that_ends_before_its_head_says_loses_nothing(settings, clip, tmp_path):
    parts = [Part(0, 0, 0.55), Part(1, 0.55, 2.05, 0.15), Part(2, 2.05, None, 1.15)]
    (recording,) = find_recordings([str(clip)])
    output = Output(str(tmp_path))
    footers = [work.analyze_part(settings, None, recording, part, output) for part in parts]
    assert work.join_parts(settings, recording, parts, footers, output).frames == 12


def test_a_worker_reads_and_writes_other_file_systems(settings, clip):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/in/hopper.mp4", clip.read_bytes())
    (recording,) = find_recordings(["memory://in/hopper.mp4"])
    output = Output("memory://results/here")
    output.make()
    settings = replace(settings, save=True, chart=True, smooth_s=0.0)
    whole = work.analyze(settings, None, recording, output)
    one = pq.read_table(memory.open(f"/results/here/{whole.table}"))
    videos = memory.find("/results/here/videos")
    parts = [Part(0, 0, 0.55), Part(1, 0.55, None, 0.15)]
    footers = [work.analyze_part(settings, None, recording, part, output) for part in parts]
    memory.rm(videos)
    assert work.join_parts(settings, recording, parts, footers, output).frames == whole.frames == 12
    assert pq.read_table(memory.open(f"/results/here/{whole.table}")).num_rows == one.num_rows
    assert set(one["source"].to_pylist()) == {"memory://in/hopper.mp4"}
    assert output.names("parts") == set()
    with memory.open(videos[0]) as file, av.open(file) as video:
        assert sum(1 for _ in video.decode(video=0)) == 12
    assert memory.cat_file(memory.find("/results/here/charts")[0])[:4] == b"\x89PNG"


def test_what_another_machine_calls_the_output_must_be_the_same_folder(tmp_path):
    (tmp_path / "here").mkdir()
    with Output(str(tmp_path / "here")).marked() as marked:
        marked.check()
        (tmp_path / "here").rename(tmp_path / "elsewhere")
        with pytest.raises(OutputError, match="all machines share"):
            marked.check()


def test_two_runs_do_not_write_into_one_folder(tmp_path):
    output = Output(str(tmp_path))
    output.make()
    half = tmp_path / "tables" / ".fer-stream-1-a.parquet"
    half.write_bytes(b"half")
    marks = [{"host": platform.node(), "process": os.getpid(), "time_s": time.time() - 3600}]
    if os.name == "posix":
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        marks.append({"host": platform.node(), "process": ended.pid, "time_s": time.time()})
    for mark in marks:  # of killed runs
        (tmp_path / f".fer-batch-run-{mark['process']}").write_text(json.dumps(mark))
    with output.marked() as marked:
        assert not half.exists() and len([*tmp_path.glob(".*")]) == 1
        half.write_bytes(b"being written")
        for again in (Output(str(tmp_path)), output):
            again.make()
            with pytest.raises(OutputError, match="another fer-batch"), again.marked():
                pass
        marked.check()
        assert half.exists()
    assert not [*tmp_path.glob(".*")]
    memory = Output("memory://two-runs")
    memory.make()
    with memory.marked(), pytest.raises(OutputError, match="another fer-batch"), memory.marked():
        pass


def test_errors_of_reading_are_not_told_as_errors_of_writing(tmp_path, monkeypatch):
    output = Output(str(tmp_path))
    with pytest.raises(PermissionError), output.writing("tables", "a.parquet"):
        raise PermissionError(13, "of the recording")
    assert not [*(tmp_path / "tables").iterdir()]
    if Path("/dev/full").exists():
        with pytest.raises(OutputError, match="space"):
            TableWriter(Path("/dev/full"), 1.0)

    def denied(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(output.fs), "ls", denied)
    with pytest.raises(OutputError, match="can't read"):
        output.names("tables")


def test_a_worker_with_another_package_is_refused(settings, monkeypatch):
    monkeypatch.setattr(work, "_loaded", None)
    for other in (replace(settings, version="0.0.1"), replace(settings, weights_hash="0" * 64)):
        with pytest.raises(WeightsError, match="install the same"):
            work.load(other, None)


def test_what_the_manifest_does_not_know_yet_the_table_tells(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    (recording,) = find_recordings([str(tmp_path / "a.mp4")])
    cpu, cuda = Settings("0"), Settings("0", device_kind="cuda")
    output = Output(str(tmp_path / "out"))
    old = Record(recording.name, "old", cpu.key, "done", output_name=recording.output_name)
    write_manifest(output, [old], cpu)
    with output.writing("tables", f"{recording.output_name}.parquet") as path:
        writer = TableWriter(path, 1.0)
        writer.close(asdict(replace(old, stamp=recording.stamp)))
    states = [finished([recording], kinds, output).records for kinds in ([cpu], [cuda], [cpu, cuda])]
    assert [state[recording.output_name].state for state in states] == ["done", "waiting", "done"]


def test_other_labels_or_another_threshold_make_a_finished_table_stale(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    (recording,) = find_recordings([str(tmp_path / "a.mp4")])
    before = Settings("0", labels="ferplus", unsure_below=0.5)
    output = Output(str(tmp_path / "out"))
    record = Record(recording.name, recording.stamp, before.key, "done", output_name=recording.output_name)
    with output.writing("tables", f"{recording.output_name}.parquet") as path:
        TableWriter(path, 1.0).close(asdict(record))
    write_manifest(output, [record], before)
    for after, state in (
        (before, "done"),
        (replace(before, labels="fer2013"), "waiting"),
        (replace(before, unsure_below=0.6), "waiting"),
        (replace(before, unsure_below=0.0), "waiting"),
        (replace(before, unsure_below=None), "waiting"),
    ):
        assert finished([recording], [after], output).records[recording.output_name].state == state


def test_workers_read_the_labels_and_the_threshold_of_the_command(settings, monkeypatch):
    monkeypatch.setattr(work, "_loaded", None)
    analyzer = work.load(replace(settings, labels="fer2013", unsure_below=0.25), None)
    assert (analyzer.labels, analyzer.unsure_below) == ("fer2013", 0.25)


def test_a_bad_recording_does_not_end_an_estimate(tmp_path):
    class Here:
        """Runs tasks at once. Inspecting a recording kills the worker."""

        def slots(self, _settings: Settings) -> int:
            return 1

        def submit(self, function: Callable[..., object], *_arguments: object) -> object:
            return function

        def wait(self, pending: list[object], _timeout_s: float) -> list[object]:
            return pending

        def result(self, function: object) -> None:
            if function is work.inspect:
                raise SourceError("its worker died")

    (tmp_path / "a.mp4").write_bytes(b"x")
    recordings = find_recordings([str(tmp_path)])
    estimated = estimate(recordings, Settings("0"), None, Here())
    assert estimated.parts == [(recordings[0], 0.0, 1)] and estimated.run_s is None


# The command.


def test_an_archive_is_done_and_again_only_what_is_missing_failed_or_changed(
    batch, cluster, clip, hopper_bgr, tmp_path
):
    archive, output = tmp_path / "archive", tmp_path / "out"
    write_clip(archive / "a.mp4", hopper_bgr, 12)
    write_clip(archive / "b.mp4", hopper_bgr, 30, rate=1)  # long enough to be cut
    (archive / "bad.mp4").write_bytes(b"no video at all")
    command = (archive, "--output", output, "--ray", cluster.address)
    said = batch(*command)
    assert said.code == 3 and said.out == ""
    assert all(line.startswith("fer-batch: ") for line in said.err.splitlines()), said.err
    assert "failed" in said.err and "bad.mp4 can't be read as a video" in said.err
    rows = manifest(output)
    assert {name: row["state"] for name, row in rows.items()} == {
        "a.mp4": "done",
        "b.mp4": "done",
        "bad.mp4": "failed",
    }
    assert (rows["b.mp4"]["frames"], rows["b.mp4"]["faces"], rows["b.mp4"]["duration_s"]) == (30, 1, 30.0)
    assert rows["b.mp4"]["hash"] == file_hash(archive / "b.mp4") and rows["b.mp4"]["seconds"] > 0
    assert rows["bad.mp4"]["error"].endswith("or no video")
    # The whole is read as one, and a recording's table is the one that fer-stream writes.
    assert pq.read_table(output / "tables").num_rows == 42
    summary = pq.read_table(output / "summary.parquet").to_pylist()
    assert [row["face_s"] for row in summary] == pytest.approx([1.2, 30])
    assert sum(summary[0][f"share_{label}"] for label in LABELS) == pytest.approx(1, abs=1e-5)
    assert single.main([str(archive / "b.mp4"), "--data", str(tmp_path / "b.parquet"), "--quiet"]) == 0
    ours, theirs = pq.read_table(output / rows["b.mp4"]["table"]), pq.read_table(tmp_path / "b.parquet")
    assert ours.column_names == theirs.column_names
    for name in ("source", "frame", "time_s", "face_id"):
        assert ours[name].equals(theirs[name])
    for name in ("x1", "y2", *EXPRESSIONS):
        np.testing.assert_allclose(
            ours[name].to_numpy(), theirs[name].to_numpy(), atol=2e-2 if name < "z" else 0
        )

    tables = {path: path.stat().st_mtime_ns for path in (output / "tables").iterdir()}
    (archive / "bad.mp4").write_bytes(clip.read_bytes())
    write_clip(archive / "a.mp4", hopper_bgr, 14)
    (output / "manifest.parquet").unlink()  # as after a killed driver: the tables hold the records
    said = batch(*command)
    assert said.code == 0 and "2 of 2 recordings done" in said.err and "1 were done before" in said.err
    rows = manifest(output)
    assert [row["state"] for row in rows.values()] == ["done"] * 3 and rows["a.mp4"]["frames"] == 14
    kept = output / rows["b.mp4"]["table"]
    assert kept.stat().st_mtime_ns == tables[kept]

    said = batch(*command)
    assert said.code == 0 and "are done already" in said.err
    said = batch(*command, "--smooth", "0", "--dry-run")
    assert said.code == 0 and len(said.out.splitlines()) == 3 and "about 0:0" in said.err
    said = batch(
        archive / "b.mp4", *command[1:], "--chart", "--save", "--part", "12", "--smooth", "0", "--quiet"
    )
    assert said.code == 0 and said.err == ""
    assert [path.suffix for folder in ("videos", "charts") for path in (output / folder).iterdir()] == [
        ".mp4",
        ".png",
    ]
    assert not any((output / "parts").iterdir())


def test_a_dry_run_writes_nothing(batch, cluster, clip, tmp_path):
    said = batch(clip, "--output", tmp_path / "out", "--ray", cluster.address, "--dry-run")
    assert said.code == 0 and said.out == f"{clip}\t0:01\t1 part\n"
    assert "1 recording" in said.err and "of video a second" in said.err
    assert not (tmp_path / "out").exists()


@linux
def test_killed_workers_cost_their_parts_only(batch, cluster, hopper_bgr, tmp_path):
    import threading

    video = write_clip(tmp_path / "long.mp4", hopper_bgr, 120, size_wh=(320, 384), rate=1)
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + WAIT_S
        while len(killed) < 2 and time.monotonic() < deadline:
            for process in Path("/proc").iterdir():
                if process.name.isdecimal() and int(process.name) not in killed and len(killed) < 2:
                    try:
                        command = (process / "cmdline").read_bytes()
                    except OSError:
                        continue
                    if command.startswith(b"ray::analyze_part"):
                        os.kill(int(process.name), signal.SIGKILL)
                        killed.append(int(process.name))
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    said = batch(
        *(video, "--output", tmp_path / "out", "--ray", cluster.address),
        *("--part", "12", "--smooth", "0", "--quiet"),
    )
    killer.join()
    assert len(killed) == 2
    assert (said.code, said.out, said.err) == (0, "", "")
    assert manifest(tmp_path / "out")["long.mp4"]["frames"] == 120
    assert pq.read_table(tmp_path / "out" / "tables")["frame"].to_pylist() == list(range(120))


@posix
def test_ctrl_c_keeps_what_is_finished_and_the_next_run_goes_on(analyzer, hopper_bgr, tmp_path):
    archive, output = tmp_path / "archive", tmp_path / "out"
    for name, frames in {"a": 6, "b": 200}.items():
        write_clip(archive / f"{name}.mp4", hopper_bgr, frames, size_wh=(320, 384))
    command = [
        sys.executable,
        "-m",
        "fer_stream.batch",
        str(archive),
        "--output",
        str(output),
        "--workers",
        "1",
    ]
    run = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert run.stderr is not None
    said = [run.stderr.readline()]
    os.killpg(run.pid, signal.SIGINT)
    out, rest = run.communicate(timeout=WAIT_S)
    said += rest.splitlines()
    assert run.returncode == 130, said
    assert said[0].startswith("fer-batch: 1/2 done a.mp4") and said[-1] == "fer-batch: interrupted"
    assert out == "" and all(line.startswith("fer-batch: ") for line in said)
    states = {name: row["state"] for name, row in manifest(output).items()}
    assert states == {"a.mp4": "done", "b.mp4": "waiting"}
    assert len(list((output / "tables").iterdir())) <= 2  # one, and what was being written

    again = subprocess.run(command, check=False, capture_output=True, text=True, timeout=WAIT_S)
    assert again.returncode == 0 and "1 of 1 recordings done" in again.stderr, again.stderr
    assert {path.name[0] for path in (output / "tables").iterdir()} == {"a", "b"}
    assert not [path for path in output.iterdir() if path.name.startswith(".")]


def test_what_is_wrong_is_one_line_before_anything_starts(batch, clip, tmp_path, monkeypatch):
    monkeypatch.setattr("fer_stream.batch.cluster.connected", lambda *_: pytest.fail("Ray was started"))
    out = tmp_path / "out"
    (tmp_path / "file").write_text("x")
    old = tmp_path / "old.pt"
    save_small_checkpoint(old)
    (tmp_path / "part.bin").write_bytes(b"\x00\x01\xfe\n\x02")
    for code, words, arguments in (
        (2, "no recordings", ("--output", out)),
        (2, "--output", (clip,)),
        (2, "--workers", (clip, "--output", out, "--ray", "auto", "--workers", "2")),
        (2, "Ray decides", (clip, "--output", out, "--device", "cuda:1")),
        (2, "--part", (clip, "--output", out, "--part", "0.1")),
        (2, "--gpu-share", (clip, "--output", out, "--gpu-share", "2")),
        (2, "lists no recording", ("--from-file", os.devnull, "--output", out)),
        (3, "no such file", (tmp_path / "none.mp4", "--output", out)),
        (3, "binary file", ("--from-file", tmp_path / "part.bin", "--output", out)),
        (3, "none.txt", ("--from-file", tmp_path / "none.txt", "--output", out)),
        (4, "it is a file", (clip, "--output", tmp_path / "file")),
        (2, "--labels", (clip, "--output", out, "--labels", "raf-db")),
        (2, "from 0 to 1", (clip, "--output", out, "--unsure-below", "2")),
        (5, "no FER+ layer", (clip, "--output", out, "--weights", old, "--labels", "ferplus")),
        (5, "not a PyTorch checkpoint", (clip, "--output", out, "--weights", tmp_path / "file")),
    ):
        said = batch(*arguments)
        assert (said.code, said.err.count("\n")) == (code, 1), said.err
        assert words in said.err and not out.exists()


def test_without_the_extra_one_line_says_how_to_get_it(batch, clip, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    said = batch(clip, "--output", tmp_path / "out")
    assert said.code == 2 and said.err.count("\n") == 1
    assert "fer-batch needs ray; install with: pip install 'fer-stream[batch]'" in said.err


def test_a_record_of_another_version_is_no_error():
    assert Record.of({"source": "a", "new": 1}) == Record("a")
    assert Record.of({"new": 1}) is None and Record.of(None) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_a_link_to_itself_stops_nobody_else(tmp_path, clip):
    archive = tmp_path / "archive"
    archive.mkdir()
    shutil.copy(clip, archive / "good.mp4")
    os.mkfifo(archive / "pipe.mp4")
    (archive / "loop.mp4").symlink_to(archive / "loop.mp4")
    found = {Path(recording.name).name: recording for recording in find_recordings([str(archive)])}
    assert sorted(found) == ["good.mp4", "loop.mp4", "pipe.mp4"]
    for name, reason in (("pipe.mp4", "is a pipe"), ("loop.mp4", "symbolic links")):
        assert work.inspect(None, found[name]) == Look()
        with pytest.raises(SourceError, match=reason), local_copy(found[name]) as path:
            VideoSource(path, name=name, mirror=False)


def test_recordings_that_differ_only_in_a_query_get_a_number():
    memory = fsspec.filesystem("memory")
    for name in ("a.mp4?id=1", "a.mp4?id=2"):
        memory.pipe_file(f"/cameras/{name}", b"x")
    found = find_recordings(["memory://cameras/a.mp4?id=1", "memory://cameras/a.mp4?id=2"])
    assert [each.name for each in found] == ["memory://cameras/a.mp4 (1)", "memory://cameras/a.mp4 (2)"]


def test_a_list_without_an_end_is_refused(tmp_path):
    path = tmp_path / "list.txt"
    with path.open("wb") as file:
        file.truncate(100 * 2**20)
    with pytest.raises(SourceError, match="MiB"):
        read_list(str(path))
