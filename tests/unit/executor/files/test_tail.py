"""The end of a file that grows, is cut, is replaced, and may not be text."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.files import confined
from executor.files.confined import CannotShow, open_file, walk
from executor.files.tail import Tail, last_lines
from simherd.contract import limits
from simherd.contract.live_frames import FileKind, Trouble

if TYPE_CHECKING:
    from pathlib import Path


def _all(tail: Tail, *, to_end: bool = False) -> str:
    found = ""
    while (piece := tail.read(to_end=to_end)) is not None:
        assert piece.start + piece.skipped <= piece.offset
        found += piece.text
    return found


@pytest.mark.fault("B20")
@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet="aä€😀\n", max_size=8), max_size=8), st.randoms())
def test_text_read_in_pieces_equals_the_text_written(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], chance: object
) -> None:
    """Also where a write ends in the middle of a character."""
    folder = tmp_path_factory.mktemp("tail")
    data = "".join(texts).encode()
    cuts = sorted(chance.randint(0, len(data)) for _ in range(5))  # type: ignore[attr-defined]
    tail = Tail(folder, "f", lines=100)
    (folder / "f").touch()
    seen = ""
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        with (folder / "f").open("ab") as file:
            file.write(data[start:end])
        seen += _all(tail)
    assert seen + _all(tail, to_end=True) == data.decode()
    assert "�" not in seen


@pytest.mark.parametrize(
    ("content", "lines", "shown"),
    [
        (b"", 3, b""),
        (b"one", 3, b"one"),
        (b"one\ntwo\nthree\n", 2, b"two\nthree\n"),
        (b"one\ntwo\nthree", 2, b"two\nthree"),
        (b"one\ntwo\n", 0, b""),
        (b"\n\n\n", 2, b"\n\n"),
        (b"x" * 200_000 + b"\nlast\n", 1, b"last\n"),
    ],
)
def test_the_last_lines_are_those(tmp_path: Path, content: bytes, lines: int, shown: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    with (tmp_path / "f").open("rb") as file:
        assert content[last_lines(file, len(content), lines) :] == shown


def test_a_truncated_or_replaced_file_is_read_from_its_start(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("one\ntwo\n")
    tail = Tail(tmp_path, "f", 10)
    assert _all(tail) == "one\ntwo\n"
    file.write_text("x\n")
    piece = tail.read()
    assert piece is not None
    assert (piece.text, piece.anew) == ("x\n", True)
    (tmp_path / "g").write_text("a longer one\n")
    os.replace(tmp_path / "g", file)
    piece = tail.read()
    assert piece is not None
    assert (piece.text, piece.anew) == ("a longer one\n", True)


def test_a_file_seen_empty_is_read_from_its_start(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("one\ntwo\n")
    tail = Tail(tmp_path, "f", 10)
    tail.read()
    file.write_text("")
    assert tail.read() is None
    file.write_text("x\n")
    piece = tail.read()
    assert piece is not None
    assert (piece.text, piece.start, piece.anew) == ("x\n", 0, True)
    tail.back_to(piece)
    assert tail.read() == piece


def test_a_reader_far_behind_gets_a_note_of_the_bytes_left_out(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("begin\n")
    tail = Tail(tmp_path, "f", 10)
    tail.read()
    with file.open("ab") as writer:
        writer.write(b"y" * (3 * limits.LIVE_BACKLOG_BYTES))
    piece = tail.read()
    assert piece is not None
    assert piece.skipped == 2 * limits.LIVE_BACKLOG_BYTES
    assert len(piece.text) <= limits.LIVE_TEXT_BYTES


def test_a_sparse_file_of_terabytes_costs_nothing(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        file.truncate(2**42)
    with pytest.raises(CannotShow) as caught:
        Tail(tmp_path, "f", 10).read()
    assert caught.value.trouble is Trouble.NOT_TEXT


def test_links_that_stay_inside_are_followed_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/f").write_text("here")
    for name, target in {
        **{"near": "a/b/f", "a/up": "b/f", "a/b/back": "../../near", "dir": "a/b"},
        **{
            "out": "../x",
            "loop": "loop2",
            "loop2": "loop",
            "far": "/etc/passwd",
            "a/b/o": "../../..",
        },
    }.items():
        (tmp_path / name).symlink_to(target)
    for name in ("near", "a/up", "a/b/back", "dir/f", "./a/b/f"):
        with open_file(tmp_path, name) as file:
            assert file.read() == b"here"
    (tmp_path / "top").symlink_to(".")
    with pytest.raises(CannotShow) as caught:
        open_file(tmp_path, "top")
    assert caught.value.trouble is Trouble.NOT_A_FILE
    for name in ("out", "loop", "far", "a/b/o/f", "a/../near", "", "."):
        with pytest.raises(CannotShow) as caught:
            open_file(tmp_path, name)
        assert caught.value.trouble is Trouble.INVALID


def test_a_folder_deeper_than_descriptors_last_is_listed_to_a_depth(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(confined.MAX_DEPTH + 20):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    found = list(walk(tmp_path))
    assert len(found) == confined.MAX_DEPTH
    assert {entry.kind for entry in found} == {FileKind.FOLDER}


def test_names_that_are_not_utf8_are_listed(tmp_path: Path) -> None:
    for name in (b"\xff\xfe", b"\x1b[31mred"):
        (tmp_path / os.fsdecode(name)).touch()
    assert {entry.name for entry in walk(tmp_path)} == {"%FF%FE", "%1B[31mred"}
