"""The folder of mpirun's notes, in which a simulation may do whatever it likes."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from executor.mpi.rsh_folder import RshFolder, RshRequest
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mpi"


@pytest.fixture
def notes(folder: Path) -> Iterator[RshFolder]:
    made = RshFolder(folder)
    yield made
    made.close()


def names(notes: list[RshRequest]) -> list[tuple[str, str, str]]:
    return [(note.name, note.host, note.line) for note in notes]


def test_the_stand_in_leaves_a_note_and_ends_as_it_is_answered(
    notes: RshFolder, folder: Path
) -> None:
    notes.put_shell()
    shell = subprocess.Popen([folder / "rsh", "host1", "orted", "-mca 'a' \"b\"", "c d"])
    found = until(notes.waiting, what="the note")
    notes.remove(found[0])
    assert (found[0].host, found[0].line) == ("host1", "orted -mca 'a' \"b\" c d")
    assert notes.waiting() == []
    notes.answer(found[0].name, 7)
    assert shell.wait(60) == 7


def test_only_a_small_plain_file_is_a_note(notes: RshFolder, folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("host1\nsecret\n")
    (folder / "1.note").symlink_to(secret)
    os.mkfifo(folder / "2.note")
    (folder / "3.note").mkdir()
    (folder / "4.note").write_bytes(b"host1\n" + b"x" * 70_000)
    (folder / "5.note").write_bytes(b"\xff\n")
    (folder / "..note").write_text("host1\nno\n")
    (folder / "x.note").write_text("host1\nno\n")
    (folder / "6.note").write_text("host1\nyes\n")
    assert names(notes.waiting()) == [("6", "host1", "yes")]
    assert secret.exists()


def test_an_answer_follows_nothing(notes: RshFolder, folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (folder / ".1.code.new").symlink_to(victim)
    (folder / "1.code").symlink_to(victim)
    (folder / "2.code").mkdir()
    notes.answer("1", 0)
    notes.answer("2", 0)
    assert victim.read_text() == "mine"
    assert (folder / "1.code").read_text() == "0\n"


def test_a_folder_in_its_place_is_not_looked_at(
    notes: RshFolder, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "1.note").write_text("host1\nno\n")
    folder.rename(tmp_path / "moved")
    folder.symlink_to(other)
    notes.answer("9", 0)
    assert notes.waiting() == []
    assert not (other / "9.code").exists()
