"""Reading the directory of a stored zip by ranged reads."""

from __future__ import annotations

import io
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from scheduler.objects.base import NoSuchObject
from simherd.contract.archive.directory import DirectoryTooLarge, locate, read_entries
from simherd.contract.archive.paths import ArchiveRejected
from simherd.contract.archive.ranged import RangedFile
from simherd.contract.archive.times import read_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.objects.base import ObjectStore
    from simherd.contract.archive.directory import ArchiveEntry

#: Entries of a stored zip that the API lists, and bytes of its central directory (160 bytes an
#: entry, its name included). The largest takes 60 MB of memory and 2 s; 600,000 entries took 750 MB
#: and 90 s. Beyond it the archive can be downloaded only.
MAX_ZIP_ENTRIES = 100_000
MAX_ZIP_DIRECTORY_BYTES = 16 * 1024**2
#: Directories of stored zips that one API process reads at the same time.
ZIP_READERS = 2
#: Seconds for which a request waits, in its thread, until one of these readers is free.
ZIP_WAIT_S = 1.0

#: Bytes fetched at a time: a central directory of some thousand members in one read.
_BLOCK = 256 * 1024
#: Fixed part of a zip member's own header, before its name (APPNOTE 4.3.7), and how it begins.
_LOCAL_HEADER = 30
_LOCAL_SIGNATURE = b"PK\3\4"


class ArchivesBusy(Exception):
    """Too many archives are read at the moment: try again in some seconds."""


class _Readers:
    """Limits concurrent readers of directories; one user never takes all places."""

    def __init__(self, most: int) -> None:
        self._most, self._most_of_one = most, max(1, most - 1)
        self._changed = threading.Condition()
        self._inside: Counter[str] = Counter()

    @contextmanager
    def entered(self, user: str) -> Iterator[None]:
        """Take a place. Raises ArchivesBusy: none became free in `ZIP_WAIT_S`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_room(user), ZIP_WAIT_S):
                raise ArchivesBusy
            self._inside[user] += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside[user] -= 1
                if not self._inside[user]:
                    del self._inside[user]
                self._changed.notify_all()

    def _has_room(self, user: str) -> bool:
        return self._inside.total() < self._most and self._inside[user] < self._most_of_one


#: For this process: each of the largest directories takes some 60 MB.
_readers = _Readers(ZIP_READERS)


class TooManyMembers(ValueError):
    """The archive is a zip whose directory is larger than the API reads."""


@dataclass(frozen=True, slots=True)
class ZipMember:
    """One file in a stored zip; `header_offset` is where its local header lies, and its data lie
    before `space_end`, where the next one begins."""

    name: str
    size: int
    compressed_size: int
    compress_type: int
    modified_at: datetime | None
    header_offset: int
    space_end: int


@dataclass(frozen=True)
class Listing:
    """A stored zip: its own size and its files in the order they were packed."""

    size: int
    members: tuple[ZipMember, ...]


def list_zip(store: ObjectStore, user: str, path: str) -> Listing:
    """Return the files in the zip at `path`.

    Raises:
        NoSuchObject: nothing lies there.
        TooManyMembers: it has more than MAX_ZIP_ENTRIES, or a directory of more than
            MAX_ZIP_DIRECTORY_BYTES.
        ArchivesBusy: too many others are read.
        ValueError: it is not a zip, or a broken one.
    """
    info = store.stat(user, path)
    if info is None:
        raise NoSuchObject(path)
    ranged = RangedFile(info.size, lambda start, length: store.read(user, path, start, length))
    reader = io.BufferedReader(ranged, _BLOCK)
    try:
        with _readers.entered(user):
            directory = locate(reader, MAX_ZIP_ENTRIES, MAX_ZIP_DIRECTORY_BYTES)
            return Listing(
                info.size, _members(list(read_entries(reader, directory)), directory.start)
            )
    except DirectoryTooLarge as error:
        raise TooManyMembers(
            f"{path} cannot be listed: {error.rule}. Download it, and look into it there"
        ) from error
    except ArchiveRejected as error:
        raise ValueError(f"{path} is not a zip archive, or a broken one: {error.rule}") from error


def _members(entries: list[ArchiveEntry], directory_at: int) -> tuple[ZipMember, ...]:
    """Return the files among the entries. Raises ArchiveRejected where their bytes overlap."""
    ends: dict[int, int] = {}
    end = directory_at
    for entry in sorted(entries, key=lambda e: e.header_offset, reverse=True):
        if entry.header_offset + _LOCAL_HEADER + entry.packed_size > end:
            raise ArchiveRejected("members overlap, or lie outside the archive", entry.name)
        ends[entry.header_offset] = end
        end = entry.header_offset
    return tuple(
        ZipMember(
            e.name,
            e.size,
            e.packed_size,
            e.method,
            _modified(e),
            e.header_offset,
            ends[e.header_offset],
        )
        for e in entries
        if not e.name.endswith("/")
    )


def _modified(info: ArchiveEntry) -> datetime | None:
    # The field of the format has no time zone, and steps of two seconds.
    exact = read_time(info.extra)
    if exact is not None:
        return datetime.fromtimestamp(exact, UTC)
    try:
        return datetime(*info.date_time, tzinfo=UTC)
    except ValueError:  # some programs write a month 0
        return None


def raw_range(store: ObjectStore, user: str, path: str, member: ZipMember) -> tuple[int, int]:
    """Return the first and last byte of a member's stored data.
    Raises ValueError: the archive is broken at this member."""
    header = store.read(user, path, member.header_offset, _LOCAL_HEADER)
    name, extra = (int.from_bytes(header[i : i + 2], "little") for i in (26, 28))
    start = member.header_offset + _LOCAL_HEADER + name + extra
    if header[:4] != _LOCAL_SIGNATURE or start + member.compressed_size > member.space_end:
        raise ValueError(f"{path} is broken at {member.name!r}")
    return start, start + member.compressed_size - 1
