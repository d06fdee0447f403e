"""Opening and listing below a folder that a simulation may change at any moment."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import pytest

from executor.files import confined
from executor.files.confined import (
    CannotShow,
    file_at,
    folder_at,
    open_file,
    readable,
    stat_at,
    walk,
)
from executor.files.tail import Tail
from simherd.contract.live_frames import FileKind, Trouble

if TYPE_CHECKING:
    from pathlib import Path


def test_files_of_an_attempt_that_is_being_prepared_are_waited_for(tmp_path: Path) -> None:
    """A client that follows a task asks before its inputs, and with them its folder, are there."""
    work = tmp_path / "work"
    tail = Tail(work, "stdout.txt", 10)
    with pytest.raises(CannotShow) as raised:
        tail.read()
    assert raised.value.trouble is Trouble.NOT_FOUND  # the kind that followers wait for
    assert list(walk(work)) == []
    work.mkdir()
    (work / "stdout.txt").write_text("said\n")
    piece = tail.read()
    assert piece is not None
    assert piece.text == "said\n"
    assert [entry.name for entry in walk(work)] == ["stdout.txt"]


def make_irregular(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(folder)  # a socket's path is short
        try:
            server.bind("socket")
        finally:
            os.chdir(here)


@pytest.mark.parametrize("name", ["fifo", "folder", "socket"])
def test_a_path_that_is_not_a_file_is_refused_without_blocking(tmp_path: Path, name: str) -> None:
    make_irregular(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    with (
        folder_at(tmp_path) as top,
        pytest.raises(OSError, match=name) as raised,
    ):
        file_at(name, top)
    assert raised.value.errno == errno.ENXIO
    with pytest.raises(CannotShow) as refused:
        open_file(tmp_path, name)
    assert refused.value.trouble is Trouble.NOT_A_FILE
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        ("", Trouble.INVALID),
        (".", Trouble.INVALID),
        ("..", Trouble.INVALID),
        ("/etc/passwd", Trouble.INVALID),
        ("a/../../x", Trouble.INVALID),
        ("a\0b", Trouble.INVALID),
        ("missing", Trouble.NOT_FOUND),
        ("file/below", Trouble.NOT_FOUND),
        ("missing/below", Trouble.NOT_FOUND),
        ("out", Trouble.INVALID),
        ("out/passwd", Trouble.INVALID),
        ("self", Trouble.INVALID),
        ("dangling", Trouble.NOT_FOUND),
    ],
)
def test_a_name_that_cannot_be_shown_says_why(tmp_path: Path, name: str, trouble: Trouble) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "dangling").symlink_to("missing")
    with pytest.raises(CannotShow) as raised:
        open_file(tmp_path, name)
    assert raised.value.trouble is trouble


def test_a_link_is_never_followed_by_a_single_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "to-file").symlink_to("file")
    (tmp_path / "to-folder").symlink_to("folder")
    with folder_at(tmp_path) as top:
        with pytest.raises(OSError, match="symbolic links") as raised:
            file_at("to-file", top)
        assert raised.value.errno == errno.ELOOP
        with pytest.raises(NotADirectoryError), folder_at("to-folder", top):
            pass
        assert stat_at("to-file", top).st_ino == (tmp_path / "to-file").lstat().st_ino


@pytest.mark.parametrize("most", [None, 1, 2, 100])
def test_a_listing_names_each_kind_and_bounds_each_folder(tmp_path: Path, most: int | None) -> None:
    make_irregular(tmp_path)
    (tmp_path / "folder/f").write_text("four")
    (tmp_path / "link").symlink_to("folder")
    entries = list(walk(tmp_path, most))
    kinds = {entry.name: entry.kind for entry in entries}
    everything = {
        "fifo": FileKind.OTHER,
        "folder": FileKind.FOLDER,
        "folder/f": FileKind.FILE,
        "link": FileKind.LINK,
        "socket": FileKind.OTHER,
    }
    if most is None or most >= len(everything):
        assert kinds == everything
        assert next(e.size for e in entries if e.name == "folder/f") == 4
    else:
        assert sum("/" not in name for name in kinds) == most
        assert kinds.items() <= everything.items()
    names = [entry.name for entry in entries]
    assert "folder/f" not in names or names.index("folder") < names.index("folder/f")


def test_a_folder_that_vanishes_while_it_is_listed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    real = confined.stat_at

    def vanish(name: str, folder: int) -> os.stat_result:
        info = real(name, folder)
        if name == "a":
            (tmp_path / "a").rmdir()
        return info

    monkeypatch.setattr(confined, "stat_at", vanish)
    assert {entry.name for entry in walk(tmp_path)} == {"a", "b"}


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"plain", "plain"),
        ("größe".encode(), "größe"),
        (b"\xff", "%FF"),
        (b"a\\b", "a%5Cb"),
        (b"\x1b[31m", "%1B[31m"),
        (b"new\nline", "new%0Aline"),
        ("\x85".encode(), "%C2%85"),
    ],
)
def test_a_name_is_readable_and_controls_no_terminal(raw: bytes, shown: str) -> None:
    assert readable(os.fsdecode(raw)) == shown
