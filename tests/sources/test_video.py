"""Video files: exact times, parts, upright pictures, and damage."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.paths import SHARED_VIDEOS
from helpers.reading import plain_decode, read
from helpers.videos import copy_to_avi, index_in, picture, set_display_matrix, write_repeats, write_video

from fer_stream.errors import SourceError
from fer_stream.sources import open_source

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


class TestVideoTimes:
    def test_a_constant_rate_is_exact(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "clip.mp4", range(30))
        assert read(path) == [(i, pytest.approx(i * 1001 / 24000, abs=1e-9), i) for i in range(30)]
        with open_source(path) as source:
            assert source.info.frame_rate == Fraction(24000, 1001)
            assert source.info.duration_s == pytest.approx(30 * 1001 / 24000, abs=0.001)

    def test_a_variable_rate_is_exact(self, tmp_path: Path) -> None:
        ticks = [0, 40, 55, 200, 210, 211, 500, 1000, 1033, 1500]
        path = write_video(tmp_path / "clip.mp4", ticks, time_base=Fraction(1, 1000))
        assert read(path) == [(i, pytest.approx(t / 1000, abs=1e-9), i) for i, t in enumerate(ticks)]

    def test_a_late_first_frame_keeps_its_time(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "clip.ts", range(100, 110), time_base=Fraction(1, 25))
        frames = read(path)
        assert [(frame[0], frame[2]) for frame in frames] == [(i, i) for i in range(10)]
        assert [frame[:2] for frame in frames] == plain_decode(path)
        assert frames[0][1] > 3.9

    @pytest.mark.parametrize("rate", [25, 30])  # FFmpeg assumes 25 if nothing states another rate
    def test_a_stream_without_timestamps_counts_by_its_rate(self, tmp_path: Path, rate: int) -> None:
        path = write_video(tmp_path / "clip.h264", range(12), time_base=Fraction(1, rate))
        assert read(path) == [(i, pytest.approx(i / rate), i) for i in range(12)]
        part = read(path, start_s=4.9 / rate, end_s=7.1 / rate)
        assert part == [(i, pytest.approx(i / rate), i) for i in (5, 6, 7)]

    def test_empty_chunks_of_an_avi_are_no_frames(self, tmp_path: Path) -> None:
        # FFmpeg copies H.264 of 25 frames per second as 50 chunks per second. Ten frames were dropped twice.
        ticks = [*range(10), *range(20, 30), *range(40, 50)]
        path = copy_to_avi(write_video(tmp_path / "clip.mp4", ticks, time_base=Fraction(1, 25)), 50)
        whole = [(i, pytest.approx(tick / 25), i) for i, tick in enumerate(ticks)]
        assert read(path) == whole
        assert read(path, start_s=0.81, end_s=1.7) == whole[11:23]
        with open_source(path) as source:
            assert source.info.frame_rate == 25 and source.info.frame_count == 50
            assert len(list(source)) == 30
            assert not any("says that it ends" in problem for problem in source.problems)

    def test_repeated_timestamps_are_made_to_rise(self, tmp_path: Path) -> None:
        # Raw MJPEG in Matroska, whose muxer takes equal timestamps as they are.
        path = tmp_path / "clip.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mjpeg", rate=25)
            stream.width, stream.height, stream.pix_fmt = 160, 96, "yuvj420p"
            for index, milliseconds in enumerate([0, 40, 40, 40, 80]):
                frame = av.VideoFrame.from_ndarray(picture(index), format="bgr24")
                frame.pts = index
                for packet in stream.encode(frame):
                    packet.pts = packet.dts = milliseconds
                    packet.time_base = Fraction(1, 1000)
                    container.mux(packet)
        assert [t for _, t in plain_decode(path)] == [0, 0.04, 0.04, 0.04, 0.08]
        assert read(path) == [(i, pytest.approx(t), i) for i, t in enumerate([0, 0.04, 0.041, 0.042, 0.08])]

    @pytest.mark.parametrize(
        ("suffix", "codec"),
        [
            *((".mp4", "libx264"), (".mkv", "libx264"), (".ts", "libx264"), (".webm", "libvpx-vp9")),
            *((".webm", "libvpx"), (".avi", "mpeg4"), (".avi", "libx264"), (".mpg", "mpeg2video")),
        ],
    )
    def test_a_part_has_the_frames_of_the_whole_between_start_and_end(
        self, tmp_path: Path, suffix: str, codec: str
    ) -> None:
        options = {"g": "12", "bf": "2"} if codec in ("libx264", "mpeg2video") else {"g": "12"}
        if codec.startswith("libvpx"):
            options |= {"deadline": "realtime", "cpu-used": "8"}
        path = write_video(
            tmp_path / f"clip{suffix}", range(60), time_base=Fraction(1, 25), codec=codec, options=options
        )
        whole = read(path)
        assert [frame[2] for frame in whole] == list(range(60))
        # Start on a frame, between two frames, at a keyframe and just before one.
        for first, after in [(0, 3), (1, 2), (11, 13), (12, 30), (25, 26), (47, 60), (59, 60)]:
            for start_s in (whole[first][1], whole[first][1] - 0.01):
                end_s = whole[after][1] if after < 60 else 1000.0
                part = read(path, start_s=max(0.0, start_s), end_s=end_s)
                assert part == whole[first:after], f"from {start_s} to {end_s}"

    @pytest.mark.parametrize("suffix", [".mp4", ".avi"])  # read from a keyframe, and from the beginning
    def test_a_part_begins_and_ends_at_times_from_the_table(self, tmp_path: Path, suffix: str) -> None:
        path = write_video(tmp_path / f"clip{suffix}", range(12), time_base=Fraction(1, 24))
        whole = read(path)
        for frame in range(1, 12):
            written_s = round(whole[frame][1], 6)  # every third one is a little later than the frame
            assert read(path, start_s=written_s) == whole[frame:]
            assert read(path, end_s=written_s) == whole[:frame]

    def test_hidden_pictures_are_not_counted(self, tmp_path: Path) -> None:
        # VP8 may hold pictures that others refer to but that are not shown.
        path = write_video(tmp_path / "clip.webm", range(30), time_base=Fraction(1, 25), codec="libvpx")
        with av.open(str(path)) as container:
            hidden = bytes([bytes(packet) for packet in container.demux(video=0)][10])
        data = bytearray(path.read_bytes())
        data[data.index(hidden)] &= ~0x10  # RFC 6386, 9.1: show_frame
        path.write_bytes(data)
        whole = read(path)
        assert [frame[2] for frame in whole] == [index for index in range(30) if index != 10]
        assert read(path, start_s=whole[20][1]) == whole[20:]

    def test_a_part_knows_how_many_frames_to_expect(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "clip.mp4", range(50), time_base=Fraction(1, 25))
        with open_source(path, start_s=0.5, end_s=1.5) as source:
            assert (source.info.start_s, source.info.end_s) == (0.5, 1.5)
            assert source.info.frame_count == 25
            assert source.info.duration_s == pytest.approx(2.0)

    @pytest.mark.parametrize("suffix", [".mp4", ".avi"])
    def test_a_start_past_the_end_names_the_length(self, tmp_path: Path, suffix: str) -> None:
        path = write_video(tmp_path / f"clip{suffix}", range(50), time_base=Fraction(1, 25))
        with pytest.raises(SourceError, match=r"0:02 long.*0:09"):
            open_source(path, start_s=9)

    @pytest.mark.parametrize("suffix", [".mp4", ".avi"])
    def test_a_start_within_the_last_frame_names_its_time(self, tmp_path: Path, suffix: str) -> None:
        path = write_video(tmp_path / f"clip{suffix}", range(50), time_base=Fraction(1, 25))
        with pytest.raises(SourceError, match=r"no frame after 0:01\.980: its last one begins at 0:01\.960"):
            open_source(path, start_s=1.9799)

    def test_a_part_outside_a_recording_that_begins_late_names_its_beginning(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "clip.ts", range(3600 * 25, 3600 * 25 + 50), time_base=Fraction(1, 25))
        with pytest.raises(
            SourceError, match=r"begins at 1:00:00 by its own clock and ends at 1:00:02.*2:00"
        ):
            open_source(path, start_s=7200)
        with pytest.raises(
            SourceError, match=r"between 0:00 and 0:09 \(by its own clock it begins at 1:00:00"
        ):
            open_source(path, end_s=9)

    def test_a_part_without_a_frame_fails(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "clip.mp4", range(10), time_base=Fraction(1, 25))
        with pytest.raises(SourceError, match="no frame between"):
            open_source(path, start_s=0.041, end_s=0.079)

    @pytest.mark.parametrize("name", ["street-1080p.mp4", "portrait-360p.mp4", "selfie-360p.mp4"])
    def test_real_videos_have_the_frames_and_times_of_a_plain_decode(self, name: str) -> None:
        path = SHARED_VIDEOS / name
        if not path.exists():
            pytest.skip(f"{name} lies in ../shared/data, which is not here")
        with open_source(path) as source:
            times = [(frame.index, frame.time_s) for frame in source]
            assert source.info.frame_count == len(times)
            assert source.problems == []
        assert times == plain_decode(path)
        middle = len(times) // 2
        with open_source(path, start_s=times[middle][1], end_s=times[middle + 5][1]) as source:
            assert [(frame.index, frame.time_s) for frame in source] == times[middle : middle + 5]


class TestVideoPictures:
    @pytest.mark.parametrize(
        ("quarter_turns", "matrix"),
        [(0, (1, 0, 0, 1)), (1, (0, 1, -1, 0)), (2, (-1, 0, 0, -1)), (3, (0, -1, 1, 0))],
    )
    def test_phone_video_comes_upright(
        self, tmp_path: Path, quarter_turns: int, matrix: tuple[int, int, int, int]
    ) -> None:
        path = write_video(tmp_path / "phone.mp4", range(8), shown=lambda bgr: np.rot90(bgr, quarter_turns))
        set_display_matrix(path, matrix)
        with open_source(path) as source:
            assert source.info.size_wh == (160, 96)
            frames = list(source)
        assert [index_in(frame.bgr) for frame in frames] == list(range(8))
        assert {frame.size_wh for frame in frames} == {(160, 96)}
        assert all(frame.bgr.flags.c_contiguous for frame in frames)

    def test_a_mirrored_display_matrix_is_undone(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "selfie.mp4", range(4), shown=lambda bgr: bgr[:, ::-1])
        set_display_matrix(path, (-1, 0, 0, 1))
        assert [frame[2] for frame in read(path)] == [0, 1, 2, 3]

    @pytest.mark.parametrize(
        ("codec", "pix_fmt"),
        [
            *(("libx264", "yuv420p10le"), ("libx264", "gray"), ("libx264", "yuv444p"), ("ffv1", "bgra")),
            *(("ffv1", "yuva420p"), ("ffv1", "gray16le"), ("mjpeg", "yuvj422p")),
        ],
    )
    def test_pixel_formats_become_bgr(self, tmp_path: Path, codec: str, pix_fmt: str) -> None:
        path = write_video(tmp_path / "clip.mkv", range(6), codec=codec, pix_fmt=pix_fmt)
        assert [frame[2] for frame in read(path)] == list(range(6))

    def test_colours_survive(self, tmp_path: Path) -> None:
        path = write_video(
            tmp_path / "blue.mp4", range(3), shown=lambda bgr: np.full_like(bgr, (200, 90, 30))
        )
        with open_source(path) as source:
            for frame in source:
                assert frame.bgr[48, 80] == pytest.approx([200, 90, 30], abs=4)

    def test_odd_sizes_keep_every_pixel(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "odd.mkv", range(5), size_wh=(641, 359), codec="ffv1", pix_fmt="bgr0")
        with open_source(path) as source:
            assert source.info.size_wh == (641, 359)
            for frame in source:
                assert np.array_equal(frame.bgr, picture(frame.index, (641, 359)))
        path = write_video(tmp_path / "odd.mp4", range(5), size_wh=(641, 359), pix_fmt="yuv444p")
        assert [frame[2] for frame in read(path)] == list(range(5))

    def test_a_size_that_changes_midway_is_scaled_to_the_first(self, tmp_path: Path) -> None:
        small = write_video(tmp_path / "a.h264", range(6), size_wh=(160, 96))
        large = write_video(tmp_path / "b.h264", range(6), size_wh=(320, 192))
        both = tmp_path / "both.h264"
        both.write_bytes(small.read_bytes() + large.read_bytes())
        with open_source(both) as source:
            frames = [(index_in(frame.bgr), frame.size_wh) for frame in source]
        assert frames == [(index, (160, 96)) for index in [*range(6), *range(6)]]


class TestDamagedVideo:
    @pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
    def test_a_truncated_file_gives_the_frames_that_it_holds(self, tmp_path: Path, suffix: str) -> None:
        path = write_video(tmp_path / f"clip{suffix}", range(60))
        whole = read(path)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 6 // 10])
        part = read(path)
        assert 10 < len(part) < 60
        assert part[:-2] == whole[: len(part) - 2]  # the last pictures may be incomplete

    def test_damage_in_the_middle_is_skipped_and_counted(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "clip.mp4", range(60))
        whole = read(path)
        with av.open(str(path)) as container:
            packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size][13:16]
        data = bytearray(path.read_bytes())
        for position, size in packets:
            data[position : position + size] = b"\xff" * size
        path.write_bytes(data)
        with open_source(path) as source:
            part = [(frame.index, frame.time_s, frame.bgr) for frame in source]
            assert source.problems == [f"{path}: 3 damaged packets were skipped"]
        assert len(part) == 57
        # Every picture from the next keyframe on is whole again, at its own time.
        assert [(time_s, index_in(bgr)) for _, time_s, bgr in part[-36:]] == [f[1:] for f in whole[-36:]]

    def test_empty_packets_repeat_the_picture_before(self, tmp_path: Path) -> None:
        path = write_repeats(tmp_path / "clip.nut", 60, shown_again=range(21, 30))
        with open_source(path) as source:
            frames = [(index_in(frame.bgr), frame.time_s) for frame in source]
            assert source.problems == []
        assert frames == [(i, pytest.approx(i / 25)) for i in range(60) if not 20 < i < 30]

    def test_a_file_with_nothing_to_decode_fails(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "clip.mp4", range(10))
        data = bytearray(path.read_bytes())
        start = data.index(b"mdat") + 4
        data[start:] = b"\xff" * (len(data) - start)
        path.write_bytes(data)
        with pytest.raises(SourceError, match="none of its video can be decoded"):
            open_source(path)


def test_frames_before_a_lost_drive_come_before_the_error(tmp_path, monkeypatch) -> None:
    from fer_stream.sources import video

    class Failing:
        """A container whose file becomes unreachable after some packets."""

        def __init__(self, container: object) -> None:
            self._container = container

        def __getattr__(self, name: str) -> object:
            return getattr(self._container, name)

        def demux(self, stream: object) -> Iterator[object]:
            for count, packet in enumerate(self._container.demux(stream)):  # type: ignore[attr-defined]
                if count == 20:
                    raise av.error.OSError(5, "Input/output error")
                yield packet

    path = write_video(tmp_path / "lost.mp4", range(40))
    opened = video.open_video

    def failing(*arguments: object) -> tuple[object, object]:
        container, stream = opened(*arguments)  # type: ignore[arg-type]
        return Failing(container), stream

    monkeypatch.setattr(video, "open_video", failing)
    indexes = []
    with open_source(path) as source, pytest.raises(SourceError, match=r"lost\.mp4.*Input/output error"):
        indexes.extend(index_in(frame.bgr) for frame in source)
    assert indexes[:15] == list(range(15))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of open files")
def test_too_many_open_files_are_no_damage(tmp_path: Path) -> None:
    import resource

    path = write_video(tmp_path / "clip.mp4", range(3))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with path.open() as file:
        most = file.fileno()  # the lowest number that is free
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        with pytest.raises(SourceError, match="can't be read: Too many open files"):
            open_source(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
