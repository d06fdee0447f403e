"""Following a file that grows: its last lines, and what is appended."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from executor.files.confined import CannotShow, open_file
from simherd.contract import limits
from simherd.contract.live_frames import Trouble

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK = 64 * 1024
#: Bytes that decide whether a file is text.
_PROBE = 8 * 1024
#: The longest character in UTF-8, bytes.
_LONGEST = 4


@dataclass(frozen=True)
class Piece:
    """Some text of a file: the bytes from `start` to `offset`, where the next piece begins.
    `skipped` bytes before it were left out."""

    text: str
    start: int
    offset: int
    skipped: int = 0
    #: Whether the file was replaced or truncated.
    anew: bool = False


class Tail:
    """One file below `root`, read in pieces; from its start when it is replaced or truncated."""

    def __init__(self, root: Path, name: str, lines: int, offset: int = -1) -> None:
        """`offset`: where to continue; -1: at the last `lines` lines."""
        self._root, self.name, self._lines = root, name, lines
        self._offset = offset
        self._inode: int | None = None
        self._anew = False

    def from_start(self) -> None:
        """Read all of the file: it did not exist at the first look."""
        self._offset = max(0, self._offset)

    def back_to(self, piece: Piece) -> None:
        """Return to a piece that did not arrive, to read it again."""
        self._offset, self._anew = piece.start - piece.skipped, piece.anew

    def read(self, *, to_end: bool = False) -> Piece | None:
        """Return the next piece; None when there is nothing new.

        A character that is incomplete is left for the next piece, unless `to_end`.

        Raises:
            CannotShow: there is no such file, or it is not text.
            OSError: it cannot be read.
        """
        with open_file(self._root, self.name) as file:
            info = os.fstat(file.fileno())
            size, skipped = info.st_size, 0
            if self._offset < 0:
                self._offset = last_lines(file, size, self._lines)
                _check_text(file, self._offset)
            elif self._inode not in {None, info.st_ino} or size < self._offset:
                self._offset, self._anew = 0, True
            self._inode = info.st_ino
            behind = size - self._offset
            if behind > limits.LIVE_BACKLOG_BYTES:
                skipped = behind - limits.LIVE_BACKLOG_BYTES
                self._offset += skipped
            data = _read_at(file, self._offset, min(size - self._offset, limits.LIVE_TEXT_BYTES))
        if not (to_end and self._offset + len(data) >= size):
            data = data[: _whole(data)]
        if not data:
            return None
        start, self._offset = self._offset, self._offset + len(data)
        anew, self._anew = self._anew, False
        return Piece(data.decode(errors="replace"), start, self._offset, skipped, anew)


def _read_at(file: IO[bytes], offset: int, length: int) -> bytes:
    return os.pread(file.fileno(), length, offset)


def _whole(data: bytes) -> int:
    """Return how many bytes of `data` are whole characters."""
    for back in range(1, min(_LONGEST, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            return len(data)
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) if back >= length else len(data) - back
    return len(data)


def last_lines(file: IO[bytes], size: int, lines: int) -> int:
    """Return the offset of the last `lines` lines, `LIVE_BACKLOG_BYTES` before the end at most."""
    first = max(0, size - limits.LIVE_BACKLOG_BYTES)
    if lines == 0:
        return size
    at, count = size, 0
    while at > first:
        start = max(first, at - _BLOCK)
        block = _read_at(file, start, at - start)
        end = len(block)
        while (newline := block.rfind(b"\n", 0, end)) >= 0:
            # The newline at the very end ends the last line; it does not begin another.
            if start + newline < size - 1:
                count += 1
                if count == lines:
                    return start + newline + 1
            end = newline
        at = start
    return first


def _check_text(file: IO[bytes], offset: int) -> None:
    if b"\0" in _read_at(file, offset, _PROBE):
        detail = "The file is not text. Fetch it instead."
        raise CannotShow(Trouble.NOT_TEXT, detail)
