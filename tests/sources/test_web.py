"""http addresses: a picture is read as a picture, a file once to its end, and a stream for ever."""

from __future__ import annotations

import io
import itertools
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers.live_servers import (
    MjpegServer,
    answering_server,
    dripping_server,
    file_server,
    grey_jpegs,
    silent_server,
)
from helpers.videos import add_noise
from helpers.waiting import wait_until

from fer_stream.errors import SourceError
from fer_stream.sources import images, open_source
from fer_stream.sources.images import ImagesSource
from fer_stream.sources.network import NetworkStream
from fer_stream.sources.opencv import Capture
from fer_stream.sources.web import Served, request, served_at

pytestmark = pytest.mark.usefixtures("threads_end")


def picture(extension: str) -> bytes:
    bgr = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    return cv2.imencode(extension, bgr)[1].tobytes()


@pytest.mark.parametrize("extension", [".jpg", ".png", ".bmp", ".webp", ".tiff"])
def test_the_address_of_a_picture_is_read_as_a_picture(extension: str, tmp_path: Path) -> None:
    (tmp_path / f"photo{extension}").write_bytes(picture(extension))
    with file_server(tmp_path) as server, open_source(f"{server}/photo{extension}?size=1") as source:
        frames = list(itertools.islice(source, 2))
    assert (source.info.kind, source.info.is_live, source.info.frame_count) == ("images", False, 1)
    (frame,) = frames
    assert (frame.size_wh, frame.index, frame.time_s) == ((64, 48), 0, 0.0)
    assert frame.source == source.info.name == f"{server}/photo{extension}"
    assert np.array_equal(frame.bgr, images.read_image(tmp_path / f"photo{extension}"))
    assert source.problems == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "image/jpeg"},  # no length: the host hangs up at the end
        {"Content-Type": "application/octet-stream", "Content-Length": "{}"},
        {"Content-Length": "{}"},
    ],
)
def test_a_snapshot_of_a_camera_is_a_picture_under_any_name(headers: dict[str, str]) -> None:
    jpeg = picture(".jpg")
    headers = {name: value.format(len(jpeg)) for name, value in headers.items()}
    with (
        answering_server(jpeg, headers, login="me:s3cret") as (server, _),
        open_source(server.replace("//", "//me:s3cret@") + "/snapshot.cgi?token=hidden") as source,
    ):
        (frame,) = source
        shown = f"{source.info}{frame.source}"
    assert source.info.kind == "images"
    assert "/snapshot.cgi" in shown
    assert not any(word in shown for word in ("s3cret", "hidden", "me:"))


@pytest.mark.parametrize("name", ["é.jpg", "e e.jpg", "笑顔", "100%25 é", "a?name=é e"])
def test_a_picture_may_have_any_name(name: str) -> None:
    with (
        answering_server(picture(".jpg"), {"Content-Type": "image/jpeg"}) as (server, asked),
        open_source(f"{server}/{name}") as source,
    ):
        frames = list(itertools.islice(source, 2))
    assert (source.info.kind, len(frames)) == ("images", 1)
    assert {urllib.parse.unquote(path) for path in asked} == {"/" + urllib.parse.unquote(name)}


def test_a_picture_is_not_read_beyond_what_its_pixels_can_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_OTHER_BYTES", 2**20)
    headers = {"Content-Type": "image/jpeg"}
    with (
        answering_server(picture(".jpg"), headers, bounded=False) as (server, _),
        pytest.raises(SourceError, match=r"/photo\.jpg is larger than an image of its size can be"),
    ):
        open_source(f"{server}/photo.jpg")


def test_a_picture_with_too_many_pixels_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "big.png"), np.zeros((1001, 1000, 3), np.uint8))
    monkeypatch.setenv("FER_STREAM_MAX_MEGAPIXELS", "1")
    with (
        file_server(tmp_path) as server,
        pytest.raises(SourceError, match="1000x1001 pixels, more than 1 megapixels"),
    ):
        open_source(f"{server}/big.png")


def test_a_picture_that_breaks_off_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "photo.bmp").write_bytes(picture(".bmp"))
    with (
        file_server(tmp_path, share=0.7) as server,
        pytest.raises(SourceError, match=r"photo\.bmp broke off after .* of .* bytes"),
    ):
        open_source(f"{server}/photo.bmp")


def test_the_command_saves_the_picture_of_an_address(
    fer: Callable, loaded: object, tmp_path: Path, hopper_bgr: np.ndarray
) -> None:
    (tmp_path / "photo.jpg").write_bytes(cv2.imencode(".jpg", hopper_bgr)[1].tobytes())
    with file_server(tmp_path) as server:
        said = fer(f"{server}/photo.jpg", "--data", "t.csv", "--save", "saved", "--chart", "chart.png")
        assert said.code == 0, said.err
        assert fer(f"{server}/photo.jpg", "--save", "saved").code == 4  # it exists
    assert f"{server}/photo.jpg,0,0" in Path("t.csv").read_text()
    assert Path("t.csv").read_text().splitlines()[1].split(",")[3] == "1"  # the face
    assert Path("saved/photo.jpg").exists() and Path("chart.png").exists()


def ts_file() -> bytes:
    """Return 1.5 s of a transport stream at 20 frames per second."""
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        add_noise(container, 30)
    return file.getvalue()


@pytest.mark.usefixtures("impatient")
def test_a_file_without_a_stated_duration_is_read_once() -> None:
    content = ts_file()
    headers = {"Content-Type": "video/mp2t", "Content-Length": str(len(content))}
    with (
        answering_server(content, headers) as (server, asked),
        open_source(f"{server}/clip.ts") as source,
    ):
        frames = [(frame.index, frame.time_s) for frame in itertools.islice(source, 100)]
        requests = len(asked)
    assert 25 <= len(frames) + source.dropped <= 30
    assert all(time_s >= index / 20 - 0.06 for index, time_s in frames)  # at its own pace
    assert source.problems == [] and requests == len(asked) == 2


@pytest.mark.usefixtures("impatient")
def test_a_stream_without_a_length_is_opened_again() -> None:
    with (
        answering_server(ts_file(), {"Content-Type": "video/mp2t"}) as (server, asked),
        open_source(f"{server}/live") as source,
    ):
        frames = list(itertools.islice(source, 3))
        wait_until(lambda: len(asked) >= 4)
    assert frames and source.problems[0].startswith(f"{server}/live was away")


def test_a_stream_without_a_keyframe_at_first_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read, silent = Capture.read_bgr, itertools.chain([True], itertools.repeat(False))
    monkeypatch.setattr(Capture, "read_bgr", lambda capture: None if next(silent) else read(capture))
    with MjpegServer(grey_jpegs(200), frame_s=0.02) as server, open_source(server.address) as source:
        assert next(iter(source)).size_wh == (128, 96)
        assert source.problems == []


def test_a_stream_that_sends_no_keyframe_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Capture, "read_bgr", lambda _: None)
    monkeypatch.setattr(NetworkStream, "first_picture_s", 0.1)
    with (
        MjpegServer(grey_jpegs(200), frame_s=0.02) as server,
        pytest.raises(SourceError, match="gives no picture: check that it sends video, with a keyframe"),
    ):
        open_source(server.address)


def test_what_an_address_serves() -> None:
    jpeg, multipart = grey_jpegs(1)[0], "multipart/x-mixed-replace; boundary=picture"
    for content, headers, expected in (
        (jpeg, {"Content-Type": multipart, "Content-Length": "999999999"}, Served.STREAM),
        (jpeg, {"Content-Type": "video/x-motion-jpeg"}, Served.STREAM),
        (jpeg, {}, Served.STREAM),
        (jpeg, {"Content-Type": "video/x-motion-jpeg", "Content-Length": "{}"}, Served.FILE),
        (b"\x47" * 500, {"Content-Length": "{}"}, Served.FILE),
        (b"\x47" * 500, {"Content-Length": "nonsense"}, Served.STREAM),
        (b"GIF89a" * 9, {"Content-Type": "image/gif", "Content-Length": "{}"}, Served.FILE),
        (b"#EXTM3U\n", {"Content-Type": "text/plain", "Content-Length": "{}"}, Served.PLAYLIST),
    ):
        stated = {name: value.format(len(content)) for name, value in headers.items()}
        with answering_server(content, stated) as (server, _):
            assert served_at(f"{server.upper()}/x") == expected, headers
    with MjpegServer([jpeg], frame_s=0.01) as server, open_source(server.address) as source:
        assert source.info.kind == "network"


@pytest.mark.usefixtures("impatient")
def test_a_host_that_does_not_answer_is_one_line() -> None:
    with silent_server() as silent, pytest.raises(SourceError, match="can't be opened: it does not answer"):
        open_source(f"http://me:s3cret@{silent}/photo.jpg")


def test_a_host_that_sends_its_headers_byte_by_byte_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_stream.sources.web.ANSWER_LIMIT_S", 0.5)
    with dripping_server() as server, pytest.raises(SourceError, match="can't be opened: it does not answer"):
        open_source(f"http://{server}/stream")


def test_a_password_goes_to_no_other_host() -> None:
    with (
        MjpegServer(grey_jpegs(1), frame_s=0, repeat=False) as other,
        MjpegServer(grey_jpegs(1), frame_s=0, repeat=False, login="me:s3cret") as server,
    ):
        own = server._server.RequestHandlerClass
        answer = own.do_GET

        def redirect(handler: object) -> None:
            if handler.headers.get("Authorization"):
                handler.send_response(302)
                handler.send_header("Location", other.address)
                handler.end_headers()
            else:
                answer(handler)

        own.do_GET = redirect
        with request(server.address.replace("//", "//me:s3cret@"), 5):
            pass
        assert other.logins == [""]


@pytest.fixture
def camera() -> Iterator[Callable[[str], str]]:
    """Return a function that starts a camera: `/snap`, behind a login, redirects to the given place."""
    with ExitStack() as stack:

        def start(place: str) -> str:
            server = stack.enter_context(
                MjpegServer(grey_jpegs(1), frame_s=0, repeat=False, login="me:s3cret")
            )
            handler = server._server.RequestHandlerClass
            answer = handler.do_GET

            def redirect(self: object) -> None:
                if self.path == "/snap":
                    self.send_response(302)
                    self.send_header("Location", place)
                    self.end_headers()
                else:
                    answer(self)

            handler.do_GET = redirect
            parts = urllib.parse.urlsplit(server.address)
            return f"http://me:s3cret@{parts.netloc}/snap"

        yield start


def test_a_password_goes_along_with_a_redirect_on_its_host(camera: Callable[[str], str]) -> None:
    with request(camera("/img/now.mjpeg"), 5) as reply:
        assert reply.status == 200


def test_a_redirect_to_another_protocol_is_refused(camera: Callable[[str], str]) -> None:
    with pytest.raises(OSError, match="another protocol"):
        request(camera("ftp://127.0.0.1/a.jpg"), 5)


def test_a_host_may_ask_for_a_digest_of_the_password() -> None:
    asked: list[str] = []
    with answering_server(b"content", {}) as (server, _), MjpegServer([], frame_s=0) as camera:
        handler = camera._server.RequestHandlerClass

        def answer(self: BaseHTTPRequestHandler) -> None:
            asked.append(self.headers.get("Authorization", ""))
            self.send_response(302 if asked[-1] else 401)
            self.send_header("Location", server)
            self.send_header("WWW-Authenticate", 'Digest realm="camera", nonce="1", qop="auth"')
            self.end_headers()

        handler.do_GET = answer  # type: ignore[attr-defined]
        with request(camera.address.replace("//", "//me:s3cret@"), 5) as reply:
            assert reply.read() == b"content"
    assert asked[-1].startswith('Digest username="me"') and "s3cret" not in asked[-1]


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x"])
def test_only_http_is_requested(address: str) -> None:
    with pytest.raises(ValueError, match="not an http or https address"):
        request(address, 5)


def test_an_images_source_reads_an_address_beside_files(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(".png"))
    with file_server(tmp_path) as server:
        mixed = [tmp_path / "a.png", f"{server}/a.png", f"{server}/missing.png"]
        with ImagesSource("several", None, mixed, mirror=False) as source:
            assert [frame.index for frame in source] == [0, 1]
    (problem,) = source.problems
    assert problem.startswith(f"{server}/missing.png can't be read: HTTP Error 404")
