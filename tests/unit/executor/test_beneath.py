"""Files of a work folder that is not there yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from executor.files.confined import CannotShow, walk
from executor.files.tail import Tail
from simherd.contract.live_frames import Trouble

if TYPE_CHECKING:
    from pathlib import Path


def test_files_of_an_attempt_that_is_being_prepared_are_waited_for(tmp_path: Path) -> None:
    """Who follows a task asks before its inputs, and with them its folder, are there."""
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
