"""Live sources: the newest frame, true times, and lost sources that come back. All over loopback."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers.command import rest_of
from helpers.live_servers import (
    MjpegServer,
    NoRtspServerError,
    RtspServer,
    file_server,
    grey_jpegs,
    silent_server,
    stalling_server,
    video_jpegs,
)
from helpers.timeouts import set_timeouts
from helpers.videos import add_noise
from helpers.waiting import wait_until

from fer_stream.analyzer import Analyzer
from fer_stream.errors import SourceError
from fer_stream.sources import Source, live, network, open_source
from fer_stream.system.background import Background
from fer_stream.types import Frame

pytestmark = pytest.mark.usefixtures("threads_end")


class Reader:
    """Reads a source in a thread, and keeps the frames without their pictures."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.seen: list[tuple[int, float]] = []
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        for frame in self.source:
            self.seen.append((frame.index, frame.time_s))

    def wait_for_more(self, count: int = 3) -> None:
        before = len(self.seen)
        wait_until(lambda: len(self.seen) >= before + count)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()
        self._thread.join(10)
        assert not self._thread.is_alive()


def test_a_slow_reader_gets_the_newest_frames(capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[Frame] = []
    with (
        MjpegServer(grey_jpegs(200), frame_s=0.01, repeat=False) as server,
        open_source(server.address) as source,
    ):
        assert source.info.is_live
        assert (source.info.kind, source.info.size_wh, source.info.name) == (
            "network",
            (128, 96),
            server.address,
        )
        for frame in source:
            seen.append(frame)
            if frame.index >= 199:
                break
            time.sleep(0.05)
        assert source.dropped > 10
        assert len(seen) + source.dropped == seen[-1].index - seen[0].index + 1
    assert all(a.index < b.index and a.time_s < b.time_s for a, b in itertools.pairwise(seen))
    # Each frame shows the picture of its index, and the last picture of the stream arrived.
    first_pass = [frame for frame in seen if frame.index < 200]
    assert [frame.bgr.mean() for frame in first_pass] == pytest.approx([f.index for f in first_pass], abs=2.5)
    assert first_pass[-1].index == 199
    assert capfd.readouterr() == ("", "")


def test_a_frame_has_the_time_at_which_its_picture_arrived() -> None:
    with (
        MjpegServer(grey_jpegs(50), frame_s=0.02) as server,
        open_source(server.address) as source,
    ):
        server.stall()
        time.sleep(0.3)
        frame = next(iter(source))
        assert time.monotonic() - frame.captured_s >= 0.15


def test_leaving_early_ends_every_thread() -> None:
    with (
        MjpegServer(grey_jpegs(200), frame_s=0.01) as server,
        open_source(server.address, mirror=True) as source,
        Background(source, drop_old=True) as frames,
    ):
        assert next(iter(frames)).size_wh == (128, 96)
        source.close()


@pytest.mark.usefixtures("impatient")
def test_a_cut_connection_is_reopened_and_time_runs_on() -> None:
    with MjpegServer(grey_jpegs(200), frame_s=0.02) as server, open_source(server.address) as source:
        with Reader(source) as reader:
            reader.wait_for_more()
            assert source.status.connected and source.status.message == ""
            server.cut(refusing=True)
            wait_until(lambda: source.status.attempt >= 3)
            status = source.status
            assert not status.connected
            assert status.message.startswith(f"reconnecting, attempt {status.attempt}, no picture for ")
            away_since = len(reader.seen)
            gone_s = status.since_s
            server.go_on()
            reader.wait_for_more()
            assert source.status.connected and source.status.attempt == 0
        (_, last_s), (_, first_s) = reader.seen[away_since - 1 : away_since + 1]
        assert first_s - last_s >= gone_s  # the clock ran on
        assert all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(reader.seen))
        (problem,) = source.problems
        assert problem.startswith(f"{server.address} was away once, for ")


@pytest.mark.usefixtures("impatient")
def test_a_stalled_connection_is_reopened() -> None:
    with MjpegServer(grey_jpegs(200), frame_s=0.02) as server, open_source(server.address) as source:
        with Reader(source) as reader:
            reader.wait_for_more()
            server.stall()
            wait_until(lambda: not source.status.connected)
            server.go_on()
            reader.wait_for_more()
        assert len(server.logins) >= 2


def test_a_silence_is_reported_before_the_connection_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SILENCE_S", 0.2)
    with MjpegServer(grey_jpegs(200), frame_s=0.02) as server, open_source(server.address) as source:
        server.stall()
        wait_until(lambda: source.status.message == "no picture for 0 s")
        assert source.status.connected
        server.go_on()
        wait_until(lambda: source.status.message == "")


@pytest.mark.usefixtures("impatient")
def test_pictures_that_come_late_out_of_a_decoder_do_not_shorten_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg holds back the last pictures of a transport stream until a read times out."""
    monkeypatch.setattr(live, "FIRST_PAUSE_S", 30.0)
    with av.open(str(tmp_path / "clip.ts"), "w") as container:
        add_noise(container, 200)
    with (
        stalling_server((tmp_path / "clip.ts").read_bytes()) as address,
        open_source(address) as source,
        Reader(source),
    ):
        wait_until(lambda: source.status.attempt == 1)
        assert source.status.since_s >= 0.4  # the read that timed out took this long


@pytest.mark.usefixtures("impatient")
def test_pauses_between_attempts_grow_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    with MjpegServer(grey_jpegs(200), frame_s=0.02) as server, open_source(server.address) as source:
        pauses: list[float] = []
        assert isinstance(source, live.LiveSource)
        wait = source._closing.wait

        def noted(limit_s: float) -> bool:
            pauses.append(limit_s)
            return wait(limit_s)

        monkeypatch.setattr(source._closing, "wait", noted)
        server.cut(refusing=True)
        wait_until(lambda: source.status.attempt >= 5)
        assert pauses[:5] == [0.02, 0.04, 0.08, 0.08, 0.08]


@pytest.mark.parametrize("when", ["in a read", "in a pause", "while reopening"])
def test_closing_never_waits_for_the_network(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these would delay closing by 4 s or more."""
    set_timeouts(monkeypatch, open_ms=4_000, read_ms=4_000 if when == "in a read" else 300)
    monkeypatch.setattr(live, "FIRST_PAUSE_S", 0.01 if when == "while reopening" else 30.0)
    with silent_server() as silent, MjpegServer(grey_jpegs(200), frame_s=0.02) as server:
        with open_source(server.address) as source, Reader(source) as reader:
            reader.wait_for_more()
            assert isinstance(source, live.LiveSource)
            source._feed._address = f"http://{silent}/live"  # type: ignore[attr-defined]
            server.stall()
            if when != "in a read":
                wait_until(lambda: source.status.attempt == 1)
            time.sleep(0.2)
            began_s = time.monotonic()
            source.close()
            closed_s = time.monotonic() - began_s
        assert closed_s < 2.5


def test_an_interrupt_while_a_stream_opens_gets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    import _thread

    set_timeouts(monkeypatch, open_ms=5_000, read_ms=5_000)
    with silent_server() as silent:
        timer = threading.Timer(0.3, _thread.interrupt_main)
        timer.start()
        began_s = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            open_source(f"rtsp://{silent}/live")
        assert time.monotonic() - began_s < 3.5
        timer.join()


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_an_unreachable_address_is_one_line_without_the_password(
    scheme: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with MjpegServer(grey_jpegs(1), frame_s=0) as server:
        place = server.address.partition("://")[2]
    with pytest.raises(SourceError, match="can't be opened") as caught:
        open_source(f"{scheme}://user:secret@{place}?token=hidden")
    assert caught.value.exit_code == 3
    assert place in str(caught.value)
    assert not any(word in str(caught.value) for word in ("secret", "hidden", "user:", "\n"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "address", ["http://[::1", "rtsp://[nonsense]/live", "http://user:s3[cret@127.0.0.1:1/x"]
)
def test_a_malformed_address_is_one_line(address: str) -> None:
    with pytest.raises(SourceError, match="can't be opened") as caught:
        open_source(address)
    assert "s3" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["rtsp", "rtsps", "http", "https", "udp", "rtmp"])
@pytest.mark.parametrize(
    "place", ["\udcff/x", "127.0.0.1:1/\udcff", "127.0.0.1:1/a\0b", "127.0.0.1:1/a\r\nb"]
)
def test_an_address_that_can_not_be_sent_is_one_line(scheme: str, place: str) -> None:
    with pytest.raises(SourceError, match="has a control character or a byte that is not UTF-8") as caught:
        open_source(f"{scheme}://me:s3cret@{place}")
    said = str(caught.value)
    assert said.isprintable() and said.startswith(f"{scheme}://{place[:5]}".replace("\udcff", "\ufffd"))
    assert "s3cret" not in said


@pytest.mark.usefixtures("impatient")
def test_a_device_that_opens_but_sends_nothing_is_an_error_at_the_start() -> None:
    with silent_server() as silent, pytest.raises(SourceError, match="can't be opened"):
        open_source(f"http://{silent}/live")


@pytest.mark.usefixtures("impatient")
def test_a_stream_that_comes_back_in_another_size_keeps_the_first() -> None:
    with MjpegServer(grey_jpegs(200), frame_s=0.02) as server, open_source(server.address) as source:
        first = next(iter(source))
        wide = cv2.imencode(".jpg", np.full((180, 320, 3), 250, np.uint8))[1].tobytes()
        server.cut(refusing=True)
        server._jpegs = [wide] * 200
        server.go_on()
        wait_until(lambda: len(server.logins) >= 2 and source.status.connected)
        later = list(itertools.islice(source, 5))[-1]
        assert later.bgr.mean() == pytest.approx(250, abs=2.5)
        assert later.size_wh == first.size_wh == (128, 96)


def test_a_password_reaches_the_device_and_nothing_else() -> None:
    with MjpegServer(grey_jpegs(50), frame_s=0.01, login="me:s3cret") as server:
        address = server.address.replace("//", "//me:s3cret@") + "?token=hidden&channel=1"
        with open_source(address) as source:
            frame = next(iter(source))
            shown = f"{source.info}{frame.source}{source.status}{source.problems}"
        assert server.logins[-1] == "me:s3cret"
    assert server.address in shown
    assert not any(word in shown for word in ("s3cret", "hidden", "me:"))


class TestPacer:
    def test_a_burst_is_spread_over_its_own_time(self) -> None:
        pacer = network.Pacer()
        assert [pacer.wait_s(position_s, 100.0) for position_s in (7.0, 7.5, 9.0)] == [0.0, 0.5, 2.0]

    def test_a_late_picture_is_not_held_back_and_the_schedule_stays(self) -> None:
        pacer = network.Pacer()
        pacer.wait_s(0.0, 100.0)
        assert pacer.wait_s(1.0, 105.0) == 0.0
        assert pacer.wait_s(6.0, 105.0) == 1.0

    def test_a_clock_that_is_reset_is_followed(self) -> None:
        pacer = network.Pacer()
        pacer.wait_s(50_000.0, 100.0)
        assert pacer.wait_s(3.0, 101.0) == 0.0
        assert pacer.wait_s(4.0, 101.0) == 1.0


def rtsp_server(video: Path, login: tuple[str, str] | None = None) -> RtspServer:
    try:
        return RtspServer(video, login=login)
    except NoRtspServerError as error:
        pytest.skip(str(error))


def write_clip(path: Path, *, index_first: bool = True) -> Path:
    """Write 2.5 s of video at 20 frames per second."""
    options = {"movflags": "faststart"} if index_first else {}
    if path.suffix == ".m3u8":
        options = {"hls_time": "1", "hls_list_size": "0"}
    with av.open(str(path), "w", options=options) as container:
        add_noise(container, 50)
    return path


@pytest.mark.usefixtures("impatient")
def test_a_recording_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    with file_server(tmp_path, share=0.6) as address, open_source(f"{address}/{path.name}") as source:
        frames = []
        with pytest.raises(SourceError, match=r"clip\.mp4 broke off after .* of 50 pictures"):
            frames.extend(frame.index for frame in source)
        assert frames


def test_a_recording_whose_index_can_not_be_read_is_to_be_downloaded(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", index_first=False)
    with (
        file_server(tmp_path) as address,
        pytest.raises(SourceError, match=r"clip\.mp4 .* download it first"),
    ):
        open_source(f"{address}/clip.mp4")


@pytest.mark.parametrize("name", ["clip.m3u8", "clip.mp4"])
def test_a_file_that_arrives_at_once_is_played_at_its_own_pace(name: str, tmp_path: Path) -> None:
    write_clip(tmp_path / name)
    with file_server(tmp_path) as address, open_source(f"{address}/{name}") as source:
        frames = [(frame.index, frame.time_s) for frame in itertools.islice(source, 60)]
    assert 45 <= len(frames) + source.dropped <= 50
    assert source.problems == []
    # No frame comes before its time. How late it comes depends on the machine.
    assert all(time_s >= index / 20 - 0.06 for index, time_s in frames)


def test_a_real_video_plays_over_mjpeg(portrait: Path) -> None:
    with (
        MjpegServer(video_jpegs(portrait, 24), frame_s=1 / 24) as server,
        open_source(server.address) as source,
    ):
        frames = [frame for frame, _ in zip(source, range(20), strict=False)]
        assert source.info.size_wh == (640, 360)
    assert frames[0].bgr.std() > 20


def test_rtsp_plays_in_real_time(portrait: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with rtsp_server(portrait, login=("me", "s3cret")) as server:
        address = server.address.replace("//", "//me:s3cret@")
        with open_source(address) as source:
            began_s = time.monotonic()
            last = next(frame for frame in source if frame.time_s >= 1.5)
            took_s = time.monotonic() - began_s
        assert source.info.name == last.source == server.address
        assert source.info.size_wh == (640, 360)
    with av.open(str(portrait)) as container:
        rate = float(container.streams.video[0].average_rate or 0)
    # The frames that arrived during probing come at once. After that, each second brings a second of frames.
    assert last.index >= 1.2 * rate * took_s * 0.5
    assert capfd.readouterr() == ("", "")


def test_rtsp_with_a_wrong_password_is_an_error(portrait: Path) -> None:
    with rtsp_server(portrait, login=("me", "s3cret")) as server:
        with pytest.raises(SourceError, match="user or password") as caught:
            open_source(server.address.replace("//", "//me:wr0ng@"))
        assert "wr0ng" not in str(caught.value)


@pytest.mark.usefixtures("impatient")
def test_rtsp_comes_back_after_a_stall_and_after_a_restart(portrait: Path) -> None:
    with rtsp_server(portrait) as server, open_source(server.address) as source, Reader(source) as reader:
        reader.wait_for_more(10)
        server.stall()
        wait_until(lambda: not source.status.connected)
        server.go_on()
        reader.wait_for_more(10)
        server.stop()
        wait_until(lambda: source.status.attempt >= 3)
        server.start()
        reader.wait_for_more(10)
        assert source.status.connected
        assert all(a[1] < b[1] for a, b in itertools.pairwise(reader.seen))


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_run_survives_an_outage_and_prints_no_password(tmp_path: Path, analyzer: Analyzer) -> None:
    """The table and the video of the command show the outage with its true length."""
    jpegs = grey_jpegs(200)
    with MjpegServer(jpegs, frame_s=0.05, login="me:s3cret") as server:
        address = server.address.replace("//", "//me:s3cret@") + "?token=hidden"
        outputs = ["--save", str(tmp_path / "out.mp4"), "--profile", str(tmp_path / "profile.json")]
        process = subprocess.Popen(
            [sys.executable, "-m", "fer_stream", address, "--no-show", "--data", "-", *outputs],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        rows = [json.loads(process.stdout.readline()) for _ in range(3)]
        server.cut(refusing=True)
        cut_s = time.monotonic()
        refused = len(server.logins)
        wait_until(lambda: len(server.logins) >= refused + 2)
        away_s = time.monotonic() - cut_s
        server.go_on()
        while rows[-1]["time_s"] - rows[-2]["time_s"] < 0.8 * away_s:
            rows.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        out, err = rest_of(process, limit_s=20)
    rows += [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 130
    assert {row["source"] for row in rows} == {server.address}
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        times = sorted(
            float(packet.pts * stream.time_base) for packet in container.demux(stream) if packet.size
        )
    saved_s, true_s = times[len(rows) - 1] - times[0], rows[-1]["time_s"] - rows[0]["time_s"]
    assert saved_s == pytest.approx(true_s, abs=0.01)
    assert "was away once, for " in err
    told = f"{rows}{err}{(tmp_path / 'profile.json').read_text()}{(tmp_path / 'out.mp4').read_bytes()!r}"
    assert "s3cret" not in told and "hidden" not in told
