"""Exact modification times of zip members: the format has two-second steps and no time zone."""

from __future__ import annotations

import struct

#: Extra field "extended timestamp" (Info-ZIP, `proginfo/extrafld.txt`): id, size, flags, mtime.
_FIELD = struct.Struct("<HHBl")
_ID = 0x5455
_HEADER = struct.Struct("<HH")
_MTIME_GIVEN = 1


def time_field(mtime: float) -> bytes:
    """Return the extra field for a modification time; empty where it does not fit (32 bits)."""
    if not -(2**31) <= mtime < 2**31:
        return b""
    return _FIELD.pack(_ID, _FIELD.size - _HEADER.size, _MTIME_GIVEN, int(mtime))


def read_time(extra: bytes) -> int | None:
    """Return the modification time among a member's extra fields, seconds since the epoch."""
    while len(extra) >= _HEADER.size:
        kind, size = _HEADER.unpack_from(extra)
        if kind == _ID and size >= 5 and len(extra) >= _FIELD.size:
            _, _, flags, mtime = _FIELD.unpack_from(extra)
            return int(mtime) if flags & _MTIME_GIVEN else None
        extra = extra[_HEADER.size + size :]
    return None
