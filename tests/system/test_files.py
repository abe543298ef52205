"""A file that is replaced is the old one or the new one."""

from __future__ import annotations

import ntpath
import os
import re
import stat
from pathlib import Path, PurePath, PureWindowsPath

import pytest

from fer_stream.errors import OutputError
from fer_stream.system.closing import first_error
from fer_stream.system.files import relative_url, replace_text, replacing


def test_the_new_file_is_there_at_the_end_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a.txt"
    for old, new in ((None, "first"), ("first", "second")):
        with replacing(path) as temporary:
            temporary.write_text(new)
            assert temporary.parent == tmp_path
            assert (path.read_text() if path.exists() else None) == old
        assert path.read_text() == new
        assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(FileNotFoundError), replacing(path):
        pass  # nothing written
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_written_as_it_is_or_the_error_names_the_file(tmp_path):
    path = tmp_path / "a.txt"
    replace_text(path, "grün\r\n")
    assert path.read_bytes() == "grün\r\n".encode()
    for wrong in (tmp_path, tmp_path / "none" / "a.txt"):
        with pytest.raises(OutputError, match=f"^can't write {re.escape(str(wrong))}: "):
            replace_text(wrong, "text")


def test_two_writers_of_one_file_do_not_interfere(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows limits the whole path")
def test_the_longest_name_can_be_replaced(tmp_path):
    path = tmp_path / ("x" * 255)
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_the_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain").write_text("")
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    modes = {stat.S_IMODE(entry.stat().st_mode) for entry in tmp_path.iterdir()}
    assert len(modes) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_writing_to_a_pipe_keeps_the_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with replacing(path) as target:
            Path(target).write_text("new")
        assert os.read(reader, 10) == b"new"
    finally:
        os.close(reader)
    assert path.is_fifo()


@pytest.mark.skipif(os.name == "nt", reason="Windows needs a permission to make links")
def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    real, link = tmp_path / "folder" / "real.txt", tmp_path / "link.txt"
    real.write_text("old")
    link.symlink_to(real)
    with replacing(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink() and real.read_text() == "new"
    assert list(real.parent.iterdir()) == [real]


def test_everything_is_finished_and_the_first_error_is_returned():
    done = []

    def fail(number: int) -> None:
        done.append(number)
        raise OSError(number, "failed")

    error = first_error([lambda: done.append(0), lambda: fail(1), lambda: fail(2), lambda: done.append(3)])
    assert done == [0, 1, 2, 3]
    assert isinstance(error, OSError) and error.errno == 1
    assert first_error([]) is None
    with pytest.raises(ZeroDivisionError):
        first_error([lambda: 1 // 0], (OSError,))


@pytest.mark.parametrize(
    ("path", "folder", "address"),
    [
        ("/v/a.mp4", "/v", "./a.mp4"),
        ("/v/a:b ü.mp4", "/v", "./a%3Ab%20%C3%BC.mp4"),
        ("/v/..a.mp4", "/v", "./..a.mp4"),
        ("/v/a.mp4", "/out/r", "../../v/a.mp4"),
    ],
)
def test_an_address_is_relative_to_the_folder(path, folder, address):
    assert relative_url(PurePath(path), PurePath(folder)) == address


@pytest.mark.parametrize(
    ("path", "folder", "address"),
    [(r"D:\v\a.mp4", r"D:\out", "../v/a.mp4"), (r"E:\v\a.mp4", r"D:\out", None)],
)
def test_windows_has_no_relative_address_between_drives(path, folder, address, monkeypatch):
    with monkeypatch.context() as windows:
        windows.setattr(os.path, "relpath", ntpath.relpath)
        windows.setattr(os, "sep", "\\")
        found = relative_url(PureWindowsPath(path), PureWindowsPath(folder))
    assert found == address
