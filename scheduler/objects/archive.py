"""Looking into a stored zip by ranged reads, without fetching it."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from scheduler.objects.base import NoSuchObject

if TYPE_CHECKING:
    from scheduler.objects.base import ObjectStore

#: Bytes fetched at a time: a central directory of some thousand members in one read.
_BLOCK = 256 * 1024
#: Fixed part of a zip member's own header, before its name (APPNOTE 4.3.7).
_LOCAL_HEADER = 30


class _Ranged(io.RawIOBase):
    """A seekable file over ranged reads of a stored object."""

    def __init__(self, store: ObjectStore, user: str, path: str, size: int) -> None:
        self._store, self._user, self._path = store, user, path
        self._size, self._at = size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        wanted = min(len(view), self._size - self._at)
        if wanted <= 0:
            return 0
        data = self._store.read(self._user, self._path, self._at, wanted)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


@dataclass(frozen=True)
class Member:
    """One file in a stored zip; `data_start` is where its raw bytes begin."""

    name: str
    size: int
    compressed_size: int
    compress_type: int
    modified_at: datetime
    header_offset: int


@dataclass(frozen=True)
class Listing:
    """A stored zip: its own size and its files in the order they were packed."""

    size: int
    members: tuple[Member, ...]


def list_zip(store: ObjectStore, user: str, path: str) -> Listing:
    """The files in the zip at `path`.

    Raises:
        NoSuchObject: nothing lies there.
        ValueError: it is no zip.
    """
    found = store.stat(user, path)
    if found is None:
        raise NoSuchObject(path)
    reader = io.BufferedReader(_Ranged(store, user, path, found.size), _BLOCK)
    try:
        with zipfile.ZipFile(reader) as archive:
            members = tuple(_member(i) for i in archive.infolist() if not i.is_dir())
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a zip archive: {error}") from error
    return Listing(found.size, members)


def _member(info: zipfile.ZipInfo) -> Member:
    return Member(
        info.filename,
        info.file_size,
        info.compress_size,
        info.compress_type,
        datetime(*info.date_time, tzinfo=UTC),
        info.header_offset,
    )


def raw_range(store: ObjectStore, user: str, path: str, member: Member) -> tuple[int, int]:
    """First and last byte of a member's stored data."""
    header = store.read(user, path, member.header_offset, _LOCAL_HEADER)
    name, extra = (int.from_bytes(header[i : i + 2], "little") for i in (26, 28))
    start = member.header_offset + _LOCAL_HEADER + name + extra
    return start, start + member.compressed_size - 1
