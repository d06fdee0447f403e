"""The central directory of a zip archive, checked before it is read.

The records at the end of an archive say where its directory lies, how long it is and how many
entries it has (PKWARE APPNOTE 4.3.12 to 4.3.16). Any of it may be a lie, and a
reader that believes it may fill its memory: each number is compared with the archive's real size
and with limits first.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from simherd.contract.archive.paths import ArchiveRejected

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The record that ends an archive, and its longest comment.
_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_COMMENT_BYTES = 65535
#: The fixed part of an entry.
_ENTRY = struct.Struct("<4s6H3L5H2L")
_ENTRY_SIGNATURE = b"PK\1\2"
#: The value of a field whose number is in the zip64 extra field, and that field's id.
_IN_ZIP64 = 0xFFFFFFFF
_ZIP64_ID = 1
_EXTRA = struct.Struct("<HH")
_UTF8 = 0x800
#: Longest name of an entry, bytes: Linux' PATH_MAX.
MAX_NAME_BYTES = 4096


class DirectoryTooLarge(ArchiveRejected):
    """The archive has more entries, or a longer directory, than the reader accepts."""


@dataclass(frozen=True)
class Directory:
    """The place of the directory: `start` and `size` in bytes of the file; `shift`: bytes before
    the archive, which its offsets leave out."""

    start: int
    size: int
    entries: int
    shift: int


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """One entry; `header_offset` is the place of its local header in the file, sizes in bytes."""

    name: str
    method: int
    size: int
    packed_size: int
    header_offset: int
    date_time: tuple[int, int, int, int, int, int]
    extra: bytes


def locate(file: IO[bytes], most_entries: int, most_bytes: int) -> Directory:
    """Find the directory of the archive in `file`, without reading it.

    Args:
        file: a seekable file; its last 64 KiB are read.
        most_entries: entries that the caller takes.
        most_bytes: length of the directory that the caller takes.

    Raises:
        DirectoryTooLarge: there is more than that.
        ArchiveRejected: it is not a zip archive, or its end contradicts itself.
    """
    size = file.seek(0, os.SEEK_END)
    tail_start = max(size - _END64.size - _END64_LOCATOR.size - _END.size - _COMMENT_BYTES, 0)
    file.seek(tail_start)
    tail = file.read(size - tail_start)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise ArchiveRejected("it is not a zip file, or it is cut short")
    *_, entries, length, offset, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail):
        raise ArchiveRejected("there is something after its end")
    end = tail_start + at
    locator_at = at - _END64_LOCATOR.size
    if locator_at >= 0 and tail[locator_at : locator_at + 4] == b"PK\6\7":
        _, _, end64_offset, _ = _END64_LOCATOR.unpack_from(tail, locator_at)
        end = tail_start + locator_at - _END64.size
        if end64_offset > end or end < tail_start or locator_at < _END64.size:
            raise ArchiveRejected("its zip64 end record is broken")
        end64 = _END64.unpack_from(tail, locator_at - _END64.size)
        if end64[0] != b"PK\6\6":
            raise ArchiveRejected("its zip64 end record is broken")
        entries, length, offset = end64[7], end64[8], end64[9]
    if entries > most_entries:
        raise DirectoryTooLarge(f"it has {entries} entries, more than {most_entries} entries")
    if length > most_bytes:
        raise DirectoryTooLarge(f"its directory has {length} bytes, more than {most_bytes}")
    start = end - length
    if start < offset or entries * _ENTRY.size > length:
        raise ArchiveRejected("its end and its directory contradict each other")
    return Directory(start, length, entries, start - offset)


def check_count(file: IO[bytes], directory: Directory) -> None:
    """Refuse a directory that does not have as many entries as the archive's end says.
    Raises ArchiveRejected: it has more or fewer, or is broken."""
    for _ in _raw_entries(_read(file, directory), directory):
        pass


def read_entries(file: IO[bytes], directory: Directory) -> Iterator[ArchiveEntry]:
    """Yield every entry, in the directory's order.
    Raises ArchiveRejected: the directory is broken, or not as the archive's end says."""
    data = _read(file, directory)
    for at, fields in _raw_entries(data, directory):
        yield _entry(data, at, fields, directory.shift)


def _read(file: IO[bytes], directory: Directory) -> bytes:
    file.seek(directory.start)
    data = file.read(directory.size)
    if len(data) != directory.size:
        raise ArchiveRejected("it is cut short")
    return data


def _raw_entries(data: bytes, directory: Directory) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield the start of each entry, and its fixed fields."""
    at = count = 0
    while at < len(data):
        if len(data) - at < _ENTRY.size:
            raise ArchiveRejected("its directory is cut short")
        fields = _ENTRY.unpack_from(data, at)
        count += 1
        if fields[0] != _ENTRY_SIGNATURE or count > directory.entries:
            raise ArchiveRejected("its directory is not as its end says")
        if fields[10] > MAX_NAME_BYTES:
            raise ArchiveRejected(f"a name is longer than {MAX_NAME_BYTES} bytes")
        after = at + _ENTRY.size + fields[10] + fields[11] + fields[12]
        if after > len(data):
            raise ArchiveRejected("its directory is cut short")
        yield at, fields
        at = after
    if count != directory.entries:
        raise ArchiveRejected("its directory is not as its end says")


def _entry(data: bytes, at: int, fields: tuple[Any, ...], shift: int) -> ArchiveEntry:
    flags, method, clock, date, _, packed, size, name_size, extra_size = fields[3:12]
    name_at = at + _ENTRY.size
    extra = data[name_at + name_size : name_at + name_size + extra_size]
    size, packed, offset = _wide((size, packed, fields[16]), extra)
    return ArchiveEntry(
        _name(data[name_at : name_at + name_size], flags),
        method,
        size,
        packed,
        offset + shift,
        (
            *((date >> 9) + 1980, (date >> 5) & 15, date & 31),
            *(clock >> 11, (clock >> 5) & 63, (clock & 31) * 2),
        ),
        extra,
    )


def _name(raw: bytes, flags: int) -> str:
    try:
        name = raw.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise ArchiveRejected("a name is not in the encoding that it says") from error
    if "\0" in name:
        raise ArchiveRejected("a name has a NUL character")
    return name


def _wide(values: tuple[int, int, int], extra: bytes) -> tuple[int, int, int]:
    """Return sizes and offset, from the zip64 extra field where they are too large (4.5.3)."""
    if _IN_ZIP64 not in values:
        return values
    while len(extra) >= _EXTRA.size:
        kind, length = _EXTRA.unpack_from(extra)
        if kind == _ZIP64_ID:
            wide = iter(extra[_EXTRA.size + i : _EXTRA.size + i + 8] for i in range(0, length, 8))
            found = tuple(
                int.from_bytes(next(wide, b""), "little") if v == _IN_ZIP64 else v for v in values
            )
            return found[0], found[1], found[2]
        extra = extra[_EXTRA.size + length :]
    return values
