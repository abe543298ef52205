"""The page's server: access checks, the content of its streams, and their cost."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from ipaddress import ip_address
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from helpers.command import start
from helpers.contexts import make_info
from helpers.live_servers import MjpegServer, video_jpegs
from helpers.page import FedPage, parts, server_sent
from helpers.paths import SAMPLE
from helpers.videos import opened
from helpers.waiting import wait_until

from fer_stream.errors import OutputError, UsageError
from fer_stream.expressions import EXPRESSIONS
from fer_stream.status import RunStatus
from fer_stream.web.addresses import page_address, parse_host_and_port
from fer_stream.web.page import PageSink

pytest.importorskip("uvicorn", reason="needs the extra web: pip install '.[web]'")

PATHS = (
    *("/", "/events", "/live", "/stream.mjpg", "/still.jpg", "/history", "/files/0"),
    *("/static/page.js", "/static/uPlot.js", "/nothing"),
)


# Access


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("token", [None, "wrong", "x" * 500])
def test_nothing_is_shown_without_the_token(page, path, token):
    with page.request(path, token=token) as answer:
        assert answer.status == 401
        assert page.token.encode() not in answer.read()


def test_nothing_is_done_without_the_token(page):
    with page.request("/actions/stop", method="POST", token=None) as answer:
        assert answer.status == 401
    assert not page.sink.stop_requested


def test_health_needs_no_token(page):
    status, body = page.get("/healthz", token=None)
    assert (status, json.loads(body)) == (200, {"status": "ok"})


def test_the_token_moves_from_the_address_into_a_cookie(page):
    with page.request(f"/?token={page.token}", token=None) as answer:
        assert (answer.status, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    status, body = page.get("/", token=None, Cookie=cookie.partition(";")[0])
    assert status == 200 and b"<title>fer-stream" in body


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[", "a b"]
)
def test_an_unknown_host_name_is_refused(page, host):
    assert page.get("/", Host=host)[0] == 421
    assert page.get("/healthz", Host=host)[0] == 421


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:9", "LOCALHOST"])
def test_addresses_and_localhost_are_accepted(page, host):
    assert page.get("/", Host=host)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"},
    ],
)
def test_another_site_may_request_nothing(page, headers):
    assert page.get("/still.jpg", **headers)[0] == 403
    with page.request("/actions/stop", method="POST", **headers) as answer:
        assert answer.status == 403
    assert not page.sink.stop_requested


def test_a_link_elsewhere_may_open_the_page_and_nothing_else(page):
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert page.get("/", **link)[0] == 200
    with page.request("/actions/stop", method="POST", **link) as answer:
        assert answer.status == 403


def test_actions_need_post(page):
    assert page.get("/actions/stop")[0] == 405
    with page.request("/actions/erase", method="POST") as answer:
        assert answer.status == 404
    assert not page.sink.stop_requested


@pytest.mark.parametrize("path", ["/", "/nothing", "/healthz", "/static/page.css", "/still.jpg"])
def test_every_answer_has_a_strict_policy(page, path):
    with page.request(path) as answer:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["server"] is None and answer.headers["access-control-allow-origin"] is None


@pytest.mark.parametrize(
    "path",
    [
        *("/files/../../etc/passwd", "/files/%2e%2e%2fpyproject.toml", "/files/-1", "/files/99", "/files/"),
        *(f"/files/{'9' * 5000}", "/files/%EF%BC%90"),
        *("/static/../page.py", "/static/%2e%2e/page.py", "/static//etc/passwd", "/static/"),
    ],
)
def test_no_other_file_can_be_fetched(page, path):
    assert page.get(path)[0] in (404, 405)


def test_a_fixed_token_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("FER_STREAM_TOKEN", "the-lab-s-own-token")
    with FedPage(tmp_path) as fed:
        assert fed.sink.address.endswith("?token=the-lab-s-own-token")
        assert fed.get("/healthz")[0] == 200
    for bad in ("short", "has a space in it", "has;a;semicolon", "hat-ümläute-drin"):
        monkeypatch.setenv("FER_STREAM_TOKEN", bad)
        with pytest.raises(UsageError, match="FER_STREAM_TOKEN"):
            PageSink(make_info(), "127.0.0.1", 0, status=RunStatus())


def test_tokens_are_random_and_long(tmp_path):
    with FedPage(tmp_path) as one, FedPage(tmp_path) as other:
        assert one.token != other.token and len(one.token) >= 32


# Addresses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8000", ("127.0.0.1", 8000)),
        ("0", ("127.0.0.1", 0)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:9", ("::1", 9)),
        ("robot.local:9000", ("robot.local", 9000)),
        (":9000", ("127.0.0.1", 9000)),
    ],
)
def test_host_and_port_are_read(text, expected):
    assert parse_host_and_port(text) == expected


@pytest.mark.parametrize("text", ["", "x", "8000x", "127.0.0.1", "70000", "a:b", "1:2:3", "-1", "::1:9"])
def test_malformed_hosts_and_ports_are_refused(text):
    with pytest.raises(UsageError, match=r"\[HOST:\]PORT"):
        parse_host_and_port(text)


def test_a_port_that_is_taken_is_one_line(page):
    with pytest.raises(OutputError, match="choose another port, or 0"):
        PageSink(make_info(), "127.0.0.1", page.port, status=RunStatus())


@pytest.mark.parametrize("host", ["0.0.0.0", "0", "00.0.0.0"])
def test_a_page_for_all_networks_gets_an_address_that_others_can_reach(host):
    sink = PageSink(make_info(), host, 0, status=RunStatus())
    sink.close()
    assert not ip_address(urlsplit(sink.address).hostname).is_unspecified


def test_an_ipv6_address_is_written_in_brackets():
    assert page_address("::1", "::1", 80, "t") == "http://[::1]:80/?token=t"
    assert not page_address("::0", "::", 80, "t").startswith("http://[::0]")


def test_pictures_have_no_page():
    with pytest.raises(UsageError, match="pictures are saved with --save"):
        PageSink(make_info(kind="images"), "127.0.0.1", 0, status=RunStatus())


# Content


def test_events_are_one_object_per_frame_with_the_columns_of_the_table(page):
    with page.request("/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        frames = list(islice(server_sent(answer), 3))
    for frame in frames:
        assert list(frame) == ["frame", "time_s", "faces"]
        assert [face["face_id"] for face in frame["faces"]] == [1, 2]
        columns = [
            "face_id",
            "x1",
            "y1",
            "x2",
            "y2",
            "detection_score",
            "expression",
            "confidence",
            *EXPRESSIONS,
        ]
        assert list(frame["faces"][0]) == columns
        assert frame["time_s"] == pytest.approx(frame["frame"] / 30, abs=1e-5)
    assert frames[0]["frame"] < frames[1]["frame"] < frames[2]["frame"]


def test_the_stream_sends_moving_pictures(page):
    with page.request("/stream.mjpg") as answer:
        assert answer.headers["content-type"].startswith("multipart/x-mixed-replace")
        pictures = [decoded(jpeg) for jpeg in islice(parts(answer), 4)]
    assert {picture.shape for picture in pictures} == {(48, 64, 3)}
    assert len({round(float(picture.mean())) for picture in pictures}) >= 3


def test_a_large_picture_is_streamed_smaller_and_its_still_is_whole(tmp_path):
    with FedPage(tmp_path, size_wh=(1920, 1080)) as fed:
        with fed.request("/stream.mjpg") as answer:
            assert decoded(next(parts(answer))).shape == (720, 1280, 3)
        assert decoded(fed.get("/still.jpg")[1]).shape == (1080, 1920, 3)


def test_the_status_says_how_the_run_is_doing(page):
    with page.request("/live") as answer:
        said = next(item for item in server_sent(answer, "status") if item["state"] == "running")
    assert said["source"] == "made-up.mp4" and said["live"] and said["device"] == "cpu"
    assert said["latency_ms"] == pytest.approx(12, abs=1)


def test_the_history_holds_the_readings_so_far(page):
    said = json.loads(page.get("/history")[1])
    assert set(said["faces"]) == {"1", "2"} and said["step_s"] > 0


def decoded(jpeg: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


# Actions


def test_buttons_save_a_still_and_a_recording_in_the_pipelines_thread(tmp_path, monkeypatch):
    threads = []
    with FedPage(tmp_path) as fed:
        save = fed.sink._captures.save_still

        def save_still(image):
            threads.append(threading.get_ident())
            return save(image)

        monkeypatch.setattr(fed.sink._captures, "save_still", save_still)
        wait_until(lambda: fed.written > 2)
        status, said = fed.post("/actions/still")
        assert status == 200 and said["message"].startswith("still saved: ")
        assert fed.post("/actions/record")[1]["message"] == "recording"
        before = fed.written
        wait_until(lambda: fed.written > before + 15)
        assert fed.post("/actions/record")[1]["message"].startswith("recording saved: ")
        with fed.request("/live") as answer:
            listed = next(item["files"] for item in server_sent(answer, "status") if len(item["files"]) == 2)
        for entry in listed:
            saved = (tmp_path / entry["name"]).read_bytes()
            assert fed.get(entry["href"]) == (200, saved)
            assert fed.get(entry["href"], Range="bytes=2-5") == (206, saved[2:6])
            assert fed.get(entry["href"], Range="bytes=-3") == (206, saved[-3:])
            assert fed.get(entry["href"], Range=f"bytes={len(saved)}-")[0] == 416
    assert threads == [fed.thread_id]
    (still,), (video,) = tmp_path.glob("*.jpg"), tmp_path.glob("*.mp4")
    assert decoded(still.read_bytes()).shape == (48, 64, 3)
    with opened(video) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 10


def test_a_report_is_saved_and_not_run_in_the_page(tmp_path):
    with FedPage(tmp_path) as fed:
        report = tmp_path / "a b.html"
        report.write_text("<script>alert(1)</script>")
        fed.files.append(report)
        with fed.request("/live") as answer:
            href = next(item["files"][0]["href"] for item in server_sent(answer, "status") if item["files"])
        with fed.request(href) as answer:
            assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''a%20b.html"
            assert answer.headers["content-security-policy"].startswith("sandbox")
        report.unlink()
        assert fed.get(href)[0] == 404


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs a list of the open files")
@pytest.mark.parametrize("requested", [f"{'9' * 5000}-", f"-{'9' * 5000}", f"0-{'9' * 5000}"])
def test_a_range_of_huge_numbers_is_ignored_and_leaves_nothing_open(page, tmp_path, requested):
    file = tmp_path / "t.csv"
    file.write_text("abc")
    page.files.append(file)
    with page.request("/live") as answer:
        files = (item["files"] for item in server_sent(answer, "status"))
        href = next(each["href"] for listed in files for each in listed if each["name"] == file.name)
    assert page.get(href, Range=f"bytes={requested}") == (200, b"abc")
    page.files.remove(file)
    wait_until(lambda: file not in map(Path.resolve, Path("/proc/self/fd").iterdir()), limit_s=3)


def test_stop_ends_the_run_and_says_so(tmp_path):
    with FedPage(tmp_path) as fed, fed.request("/live") as answer:
        assert fed.post("/actions/stop")[1] == {"message": "stopping"}
        states = [item["state"] for item in server_sent(answer, "status")]
    assert states[-1] == "ended" and fed.sink.stop_requested


def test_a_still_of_a_silent_source_is_saved(tmp_path):
    with FedPage(tmp_path) as fed:
        wait_until(lambda: fed.written > 2)
        with fed.request("/stream.mjpg") as answer:
            next(parts(answer))
            fed.silent = True
            assert fed.post("/actions/still")[1]["message"].startswith("still saved: ")
            with fed.request("/live") as status:
                said = next(item for item in server_sent(status, "status") if not item["connected"])
    assert said["message"].startswith("reconnecting")


# Cost


def test_nothing_is_drawn_while_nobody_watches(tmp_path):
    with FedPage(tmp_path, rate=200) as fed:
        wait_until(lambda: fed.written > 20)
        assert fed.drawn == 0
        with fed.request("/stream.mjpg") as answer:
            next(parts(answer))
            assert fed.drawn > 0
        wait_until(lambda: fed.sink._hub.images.readers == 0)
        time.sleep(0.05)
        before, written = fed.drawn, fed.written
        wait_until(lambda: fed.written > written + 20)
        assert fed.drawn == before


def test_stuck_readers_do_not_hold_up_others(tmp_path):
    stuck = []
    with FedPage(tmp_path, size_wh=(640, 480)) as fed:
        for path in ("/stream.mjpg", "/events", "/live"):
            one = socket.create_connection(("127.0.0.1", fed.port))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            one.sendall(f"GET {path}?token={fed.token} HTTP/1.1\r\nHost: {fed.host}\r\n\r\n".encode())
            stuck.append(one)
        with fed.request("/stream.mjpg") as answer:  # another reader still gets its pictures
            assert len(list(islice(parts(answer), 30))) == 30
        began_s = time.monotonic()
        fed.end()
        assert time.monotonic() - began_s < 20  # it does not wait for them
    for one in stuck:
        one.close()


def test_the_page_plays_in_real_time_only_without_other_outputs(fer, loaded, monkeypatch):
    made = []

    class Noted(PageSink):
        def __init__(self, *arguments, real_time, **options) -> None:
            made.append(real_time)
            super().__init__(*arguments, real_time=real_time, **options)

    monkeypatch.setattr("fer_stream.web.page.PageSink", Noted)
    said = fer(SAMPLE, "--end", "0.5", "--serve", "0", "--quiet")
    assert said.code == 0
    assert said.line.startswith("fer-stream: live page at http://127.0.0.1:") and "/?token=" in said.line
    assert fer(SAMPLE, "--end", "0.5", "--serve", "0", "--data", "t.csv", "--quiet").code == 0
    assert made == [True, False]


def test_a_wrong_address_is_found_before_anything_loads(fer, no_network, page):
    assert fer(SAMPLE, "--serve", "nowhere").code == 2
    assert fer(SAMPLE, "--serve", page.port).code == 4
    assert fer(Path(SAMPLE).parent / "nothing.mp4", "--serve", "0").code == 3


@pytest.mark.slow
def test_a_stream_is_shown_recorded_and_stopped(tmp_path):
    with MjpegServer(video_jpegs(SAMPLE, 60), frame_s=1 / 10) as camera:
        run = start([camera.address, "--no-show", "--serve", "0", "--quiet"], cwd=tmp_path)
        address = urlsplit(run.stderr.readline().rpartition(" ")[2].strip())
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
        connection.request("GET", f"/events?{address.query}")
        frames = server_sent(connection.getresponse())
        assert max(len(frame["faces"]) for frame in islice(frames, 20)) == 2

        def act(name: str) -> str:
            other = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
            other.request("POST", f"/actions/{name}?{address.query}")
            return json.loads(other.getresponse().read())["message"]

        assert act("record") == "recording"
        assert len(list(islice(frames, 10))) == 10
        assert act("record").startswith("recording saved: ")
        assert act("still").startswith("still saved: ")
        assert act("stop") == "stopping"
        assert (run.wait(20), run.stderr.read()) == (0, "")
    (video,), (still,) = tmp_path.glob("*.mp4"), tmp_path.glob("*.jpg")
    with opened(video) as container:
        recorded = list(container.decode(video=0))
    assert recorded and recorded[0].width == 1280
    assert decoded(still.read_bytes()).shape == (720, 1280, 3)
