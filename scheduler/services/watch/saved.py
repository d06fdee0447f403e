"""The files of a task whose machine is gone, read from its stored outputs."""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.objects.archive import ArchivesBusy, TooManyMembers, list_zip, raw_range
from scheduler.objects.base import NoSuchObject
from scheduler.services.errors import GatewayTimeout, Invalid, ResourceNotFound, TooLarge
from simherd.contract import limits, objects
from simherd.contract.live_frames import FileEntry, FileKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from scheduler.objects.archive import ZipMember
    from scheduler.store.models import TaskRow
    from scheduler.wiring import Runtime

#: Bytes of a stored, compressed file that are unpacked to find its end.
SAVED_TAIL_BYTES = 2 * 1024**3

#: Bytes of the archive that are read at a time.
_BLOCK = 4 * 1024**2
_PREFIX = f"{objects.OUTPUT_ROOT}/"
#: For zlib: deflate without a header.
_RAW_DEFLATE = -15
#: Compression methods that can be read: stored, and deflate.
_METHODS = frozenset({0, 8})


@dataclass(frozen=True)
class SavedText:
    """The end of a stored file: the bytes from `start` to `offset`, which is its size."""

    text: str
    start: int
    offset: int
    skipped: int = 0


class SavedFiles:
    """The outputs of a task's last attempt.

    Each method may raise Invalid or TooLarge: the stored archive is broken, or has too many files.
    """

    def __init__(self, rt: Runtime, task: TaskRow) -> None:
        self._store, self._user = rt.objects, task.user_id
        self._path = objects.output_path(task.storage_prefix, task.id, max(1, task.attempt))
        self._known: dict[str, ZipMember] | None = None

    def entries(self) -> list[FileEntry]:
        """Return the files; none where nothing was stored."""
        return [
            FileEntry(name, FileKind.FILE, m.size, _epoch(m.modified_at))
            for name, m in self._members().items()
        ]

    def _members(self) -> dict[str, ZipMember]:
        if self._known is None:
            try:
                members = list_zip(self._store, self._user, self._path).members
            except NoSuchObject:
                members = ()
            except ArchivesBusy as error:
                raise GatewayTimeout("outputs: too many archives are read just now.") from error
            except TooManyMembers as error:
                raise TooLarge(f"outputs: {error}.") from error
            except ValueError as error:
                raise Invalid(f"outputs: {error}.") from error
            outputs = [m for m in members if m.name.startswith(_PREFIX)]
            self._known = {m.name.removeprefix(_PREFIX): m for m in outputs}
        return self._known

    def _member(self, name: str) -> ZipMember:
        member = self._members().get(name)
        if member is None:
            raise ResourceNotFound(f"file: there is no {name!r} among the stored outputs.")
        return member

    def size(self, name: str) -> int:
        """Return the bytes of a file. Raises ResourceNotFound."""
        return self._member(name).size

    def content(self, name: str) -> Iterator[bytes]:
        """Yield a file's bytes in pieces. Raises ResourceNotFound before the first one."""
        return self._unpacked(self._member(name))

    def _unpacked(self, member: ZipMember, skip: int = 0) -> Iterator[bytes]:
        try:
            yield from self._pieces(member, skip)
        except (ValueError, zlib.error) as error:
            # Users may overwrite the outputs.
            name = member.name.removeprefix(_PREFIX)
            raise Invalid(f"file: {name!r} is broken in the archive: {error}.") from error

    def _pieces(self, member: ZipMember, skip: int) -> Iterator[bytes]:
        if member.compress_type not in _METHODS:
            raise ValueError(f"it is compressed by method {member.compress_type}, not deflate")
        first, last = raw_range(self._store, self._user, self._path, member)
        inflate = zlib.decompressobj(_RAW_DEFLATE) if member.compress_type else None
        for start in range(first + skip, last + 1, _BLOCK):
            length = min(_BLOCK, last + 1 - start)
            raw = self._store.read(self._user, self._path, start, length)
            if inflate is None:
                yield raw
                continue
            # In pieces: a block of zeros unpacks to a thousand times as much.
            while piece := inflate.decompress(raw, _BLOCK):
                yield piece
                raw = inflate.unconsumed_tail
        if inflate is not None and (rest := inflate.flush()):
            yield rest

    def tail(self, name: str, lines: int, offset: int = -1) -> SavedText:
        """Return the last lines of a file, or its text from `offset` on.

        Raises:
            ResourceNotFound: there is no such file.
            TooLarge: reading its end would mean to unpack too much.
        """
        member = self._member(name)
        if member.compress_type and member.size > SAVED_TAIL_BYTES:
            raise TooLarge(f"file: {name!r} is too large for this. Download it instead.")
        at = max(0, member.size - limits.LIVE_BACKLOG_BYTES)
        data = self._end(member, at)
        if offset >= 0:
            start = max(at, min(offset, member.size))
            return SavedText(_text(data[start - at :]), start, member.size, start - offset)
        kept = _last(data, lines)
        return SavedText(_text(kept), member.size - len(kept), member.size)

    def _end(self, member: ZipMember, at: int) -> bytes:
        """Return the bytes of a member from `at` on."""
        if not member.compress_type:
            return b"".join(self._unpacked(member, at))
        kept: deque[bytes] = deque()
        size, length = 0, member.size - at
        if not length:
            return b""
        for piece in self._unpacked(member):
            kept.append(piece)
            size += len(piece)
            while size - len(kept[0]) >= length:
                size -= len(kept.popleft())
        return b"".join(kept)[-length:]


def _epoch(at: datetime | None) -> float:
    return 0.0 if at is None else at.timestamp()


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _last(data: bytes, lines: int) -> bytes:
    at = len(data) - 1 if data.endswith(b"\n") else len(data)
    for _ in range(lines):
        at = data.rfind(b"\n", 0, at)
        if at < 0:
            return data
    return data[at + 1 :] if lines else b""
