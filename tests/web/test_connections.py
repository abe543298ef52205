"""The page's connections: how many stay open, for how long, and what they leave for the run."""

from __future__ import annotations

import http.client
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.page import FedPage, server_sent
from helpers.waiting import wait_until

pytest.importorskip("uvicorn", reason="needs the extra web: pip install '.[web]'")


def answers(fed: FedPage) -> bool:
    try:
        return fed.get("/healthz")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def is_open(one: socket.socket) -> bool:
    try:
        return one.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


@contextmanager
def file_limit(most: int) -> Iterator[None]:
    resource = pytest.importorskip("resource", reason="needs a limit of open files")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(("most_files", "most_open"), [(1024, 64), (320, 40)])
def test_only_some_connections_stay_open(tmp_path, most_files, most_open):
    with FedPage(tmp_path) as fed, file_limit(most_files):
        idle = []
        for _ in range(80):
            idle.append(socket.create_connection(("127.0.0.1", fed.port)))
            idle[-1].setblocking(False)
            time.sleep(0.002)  # the server accepts it; a full queue makes the next one wait for a second
        wait_until(lambda: sum(map(is_open, idle)) == most_open, limit_s=3)
        assert answers(fed)  # the oldest one makes room
        for one in idle:
            one.close()


def test_a_connection_with_an_answer_makes_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr("fer_stream.web.server._most_connections", lambda: 2)
    with FedPage(tmp_path) as fed, fed.request("/events") as one, fed.request("/events") as other:
        assert not answers(fed)
        assert all(next(server_sent(each))["frame"] >= 0 for each in (one, other))


def test_too_many_open_files_are_no_traceback(tmp_path, caplog):
    with FedPage(tmp_path) as fed, socket.socket() as one, Path(os.devnull).open() as file:
        wait_until(lambda: answers(fed))
        with file_limit(file.fileno()):
            one.connect(("127.0.0.1", fed.port))
            time.sleep(0.2)
        wait_until(lambda: answers(fed))
    assert not caplog.records


def test_connections_without_a_request_are_closed(tmp_path, monkeypatch):
    monkeypatch.setattr("fer_stream.web.server.ASK_WITHIN_S", 0.4)
    with FedPage(tmp_path) as fed, fed.request("/events") as answer:
        frames = server_sent(answer)
        next(frames)
        idle = [socket.create_connection(("127.0.0.1", fed.port)) for _ in range(70)]
        for one in idle:
            one.sendall(b"GET / HT")
        wait_until(lambda: answers(fed))
        assert not any(map(is_open, idle[:40]))
        assert next(frames)["frame"] > 0  # a connection with an answer stays open
        for one in idle:
            one.close()
