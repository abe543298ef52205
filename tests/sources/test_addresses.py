"""Passwords in addresses are never shown, no matter which library writes the line."""

from __future__ import annotations

import pytest

from fer_stream.command.cli import main
from fer_stream.sources.addresses import is_network_address, without_password, without_passwords


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://user:secret@cam.local:554/live", "rtsp://cam.local:554/live"),
        ("rtsp://user:sec/ret@cam.local/live", "rtsp://cam.local/live"),
        ("rtsp://user:s@ecret@cam.local/live", "rtsp://cam.local/live"),
        ("http://cam.local:8080/v?user=a&password=secret&x=1", "http://cam.local:8080/v"),
        ("http://cam.local/v?access_code=b&jwt=c&bearer=d&auth[pass]=e", "http://cam.local/v"),
        ("http://cam.local/v?pass%77ord=b", "http://cam.local/v"),
        ("http://cam.local/live/pass%77ord%3Db/1", "http://cam.local/live/***/1"),
        ("http://cam.local/v#token=b", "http://cam.local/v"),
        ("http://cam.local/v.cgi?loginuse=a&loginpas=b", "http://cam.local/v.cgi"),
        ("http://cam.local/v?PWD=b&api_key=c&n=2", "http://cam.local/v"),
        ("https://cdn.tv/a.m3u8?X-Signature=ab%2Fc#t", "https://cdn.tv/a.m3u8"),
        ("rtsp://cam.local/user=a&password=b&channel=1", "rtsp://cam.local/***"),
        ("rtsp://cam.local/user=a_password=b_channel=1.sdp", "rtsp://cam.local/***"),
        ("rtsp://cam.local/live?channel=1&subtype=0", "rtsp://cam.local/live"),
        ("http://cam.local/@me", "http://cam.local/@me"),
        ("http://user:1234@cam.local/@me", "http://cam.local/@me"),
        ("http://user@cam.local:8080/v", "http://cam.local:8080/v"),
        ("http://[::1]:8080/v", "http://[::1]:8080/v"),
        ("rtsp://admin:1234/5@cam.local/1", "rtsp://cam.local/1"),
        ("rtsp://admin:12#34@cam.local/1", "rtsp://cam.local/1"),
        ("http://cam.local/v?user=a&p=secret&page=2", "http://cam.local/v"),
        ("http://[::1", "http://[::1"),
        ("rtsp://user:1/\nsecret@cam.local/1", "rtsp://cam.local/1"),
        ("rtsp://a:pw@cam.local:554/live?user=me@tv.org&key=b", "rtsp://cam.local:554/live"),
        ("rtsp://a:1/5@cam.local/1?user=me@tv.org&key=b", "rtsp://cam.local/1"),
        ("rtsp://a:1#5@cam.local/1#me@tv.org", "rtsp://cam.local/1"),
        # The text before the @ may be a password, and the text after it a query.
        ("http://cam.local:8080/v?user=me@tv.org&key=b", "http://***"),
        ("http://a:1?2@cam.local/v", "http://***"),
    ],
)
def test_no_password_is_ever_shown(address: str, shown: str) -> None:
    assert is_network_address(address)
    assert without_password(address) == shown


def test_passwords_are_removed_from_every_address_in_a_text() -> None:
    text = "unrecognized arguments: rtsp://u:pw@h/x http://h/?token=pw and.mp4"
    assert without_passwords(text) == "unrecognized arguments: rtsp://h/x http://h/ and.mp4"


@pytest.mark.parametrize(
    "arguments",
    [
        ["clip.mp4", "rtsp://u:s3cret@cam.local/x"],
        ["rtmps://u:s3cret@cam.local/x"],
        ["RTSP://u:s3cret@127.0.0.1:1/x"],
        ["--camera", "http://u:s3cret@cam.local/x"],
        ["http://u:s3cret@127.0.0.1:1/x", "--start", "5"],
        ["clip.mp4", "--device", "http://u:s3cret@cam.local/x"],
        ["clip.mp4", "--save", "http://u:s3cret@cam.local/x"],
    ],
)
def test_no_error_repeats_a_password_that_was_typed(
    arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) in (2, 3, 4)
    said = capfd.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert "s3cret" not in said.err
