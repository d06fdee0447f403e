"""Looking into a stored zip by ranged reads, without fetching it."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from scheduler.objects.base import NoSuchObject
from simherd.contract.archive.ranged import RangedFile
from simherd.contract.archive.times import read_time

if TYPE_CHECKING:
    from scheduler.objects.base import ObjectStore

#: Bytes fetched at a time: a central directory of some thousand members in one read.
_BLOCK = 256 * 1024
#: Fixed part of a zip member's own header, before its name (APPNOTE 4.3.7).
_LOCAL_HEADER = 30


@dataclass(frozen=True)
class Member:
    """One file in a stored zip; `data_start` is where its raw bytes begin."""

    name: str
    size: int
    compressed_size: int
    compress_type: int
    modified_at: datetime | None
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
    ranged = RangedFile(found.size, lambda start, length: store.read(user, path, start, length))
    reader = io.BufferedReader(ranged, _BLOCK)
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
        _modified(info),
        info.header_offset,
    )


def _modified(info: zipfile.ZipInfo) -> datetime | None:
    # The format's own field has no time zone, and steps of two seconds.
    exact = read_time(info.extra)
    if exact is not None:
        return datetime.fromtimestamp(exact, UTC)
    try:
        return datetime(*info.date_time, tzinfo=UTC)
    except ValueError:  # some programs write a month 0
        return None


def raw_range(store: ObjectStore, user: str, path: str, member: Member) -> tuple[int, int]:
    """First and last byte of a member's stored data."""
    header = store.read(user, path, member.header_offset, _LOCAL_HEADER)
    name, extra = (int.from_bytes(header[i : i + 2], "little") for i in (26, 28))
    start = member.header_offset + _LOCAL_HEADER + name + extra
    return start, start + member.compressed_size - 1
