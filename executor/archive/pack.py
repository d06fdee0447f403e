"""Packing whatever a task left behind, without following links or waiting for pipes."""

from __future__ import annotations

import hashlib
import os
import stat
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, cast

from executor.archive.deflate import ZipWriter
from executor.archive.stamps import Stamp, stamp_of
from executor.files.confined import MAX_DEPTH, file_at, folder_at, readable, stat_at
from simherd.contract.archive.paths import link_stays_inside
from simherd.contract.archive.times import time_field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_CHUNK = 1024 * 1024
#: Notes kept; a million odd files are not worth a million lines.
MAX_NOTES = 500
#: Suffixes of files that are compressed already and are stored as they are.
COMPRESSED = frozenset(
    {".7z", ".br", ".bz2", ".gif", ".gz", ".jpeg", ".jpg", ".lz4", ".mkv", ".mp4", ".npz"}
    | {".ogg", ".pdf", ".png", ".rar", ".tgz", ".webm", ".webp", ".xz", ".zip", ".zst"}
)
_UNIX = 3
_ZIP_TIMES = ((1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58))
_LONGEST_NAME = 65_000
#: A file larger than this, bytes, of which less than one part in `_SPARSE` is on the disk is left
#: out: it would take hours to read its holes.
_SPARSE_BYTES, _SPARSE = 64 * 1024**3, 1000


@dataclass(frozen=True)
class PackResult:
    """What was packed; `notes` names everything that was left out or is not as it was."""

    files: int
    #: Sum of the files' sizes, bytes.
    bytes: int
    #: Size of the archive, bytes.
    zipped_bytes: int
    notes: tuple[str, ...]
    #: False when the deadline left something out.
    complete: bool


#: What the manifest says of one entry.
Listing = dict[str, Any]


@dataclass(frozen=True)
class PackOptions:
    """How to pack.

    `unchanged`: files that are left out while they are as this snapshot says. `deadline`:
    `time.monotonic()` after which no more is packed. `extra`: further files, by their names below
    the prefix; they replace what the folder holds of those names. `list_entry` is called with each
    entry, `workers` is the number of threads that compress.
    """

    unchanged: Mapping[str, Stamp] = field(default_factory=dict)
    deadline: float | None = None
    compress: bool = True
    extra: Mapping[str, Path] = field(default_factory=dict)
    list_entry: Callable[[Listing], None] | None = None
    workers: int = 1


def pack(
    root: Path,
    out: IO[bytes],
    options: PackOptions | None = None,
    *,
    prefix: str = "artifacts/",
) -> PackResult:
    """Write what is below `root` as a zip archive, each name after `prefix`, in one pass.

    `out` need not be able to seek. An odd, unreadable or changing file costs a note, never the
    archive. Raises OSError when `root` cannot be read, and what writing to `out` raises.
    """
    options = options or PackOptions()
    with ThreadPoolExecutor(options.workers, "deflate") as pool:
        try:
            return _Packer(_Stream(out), options, pool).pack(root, prefix)
        except _Unwritable as error:
            raise error.cause from None


class _Unwritable(Exception):
    """The medium of the archive failed: this ends the packing, not just one file of it."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Stream:
    """Where the archive goes: counts bytes, and marks its errors apart from those of reading."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._failed: _Unwritable | None = None
        self.size = 0

    def write(self, data: bytes) -> int:
        # The zip library writes its last records even when an exception ends its block.
        if self._failed is None:
            try:
                self._out.write(data)
            except Exception as error:
                self._failed = _Unwritable(error)
        if self._failed is not None:
            raise self._failed
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        return None


class _Packer:
    def __init__(self, out: _Stream, options: PackOptions, pool: ThreadPoolExecutor) -> None:
        self._out = out
        self._zip = ZipWriter(cast("IO[bytes]", out), pool, options.workers)
        self._options = options
        self._names: set[str] = set()
        self._notes: list[str] = []
        self._unnoted = 0
        self._files = 0
        self._bytes = 0
        self._late = False

    def pack(self, root: Path, prefix: str) -> PackResult:
        with self._zip:
            with folder_at(root) as top:
                if prefix:
                    self._add_empty(prefix, os.fstat(top))
                self._folder(top, (), prefix)
            for name, path in self._options.extra.items():
                self._extra(name, path, prefix)
        notes = [*self._notes, f"and {self._unnoted} more"] if self._unnoted else self._notes
        return PackResult(self._files, self._bytes, self._out.size, tuple(notes), not self._late)

    def _note(self, path: tuple[str, ...], what: str) -> None:
        if len(self._notes) < MAX_NOTES:
            self._notes.append(f"{readable('/'.join(path))}: {what}")
            self._list(path, note=what)
        else:
            self._unnoted += 1

    def _list(self, path: tuple[str, ...], **fields: Any) -> None:
        if self._options.list_entry is not None:
            self._options.list_entry({"path": readable("/".join(path)), **fields})

    def _extra(self, name: str, path: Path, prefix: str) -> None:
        try:
            with folder_at(path.parent) as folder:
                self._file(folder, path.name, (name,), self._unique(prefix + name))
        except OSError as error:
            self._note((name,), f"not packed: {error.strerror}")

    def _folder(self, fd: int, path: tuple[str, ...], prefix: str) -> None:
        """Pack what is in an open folder, in the order of names."""
        with os.scandir(fd) as scan:
            entries = sorted(entry.name for entry in scan)
        for name in entries:
            if not path and name in self._options.extra:
                continue
            if self._is_late():
                self._note(path, "packing ran out of time here; what follows is missing")
                return
            here = (*path, name)
            try:
                self._entry(fd, name, here, prefix)
            except OSError as error:
                self._note(here, f"not packed: {error.strerror}")

    def _entry(self, fd: int, name: str, path: tuple[str, ...], prefix: str) -> None:
        info = stat_at(name, fd)
        stored = self._unique(prefix + readable("/".join(path)))
        if len(stored.encode()) > _LONGEST_NAME:
            self._note(path[:3], "not packed: a name below is too long")
        elif stat.S_ISDIR(info.st_mode):
            self._add_empty(stored + "/", info)
            self._list(path, kind="folder", **_status(info))
            self._enter(fd, name, path, prefix)
        elif stat.S_ISREG(info.st_mode):
            if self._options.unchanged.get("/".join(path)) != stamp_of(info):
                self._file(fd, name, path, stored)
        elif stat.S_ISLNK(info.st_mode):
            self._link(os.readlink(name, dir_fd=fd), path, stored, info)
        else:
            self._note(path, "not packed: a FIFO, socket or device")

    def _enter(self, fd: int, name: str, path: tuple[str, ...], prefix: str) -> None:
        if len(path) > MAX_DEPTH:
            self._note(path[:3], f"not packed: more than {MAX_DEPTH} folders below one another")
            return
        with folder_at(name, fd) as inner:
            self._folder(inner, path, prefix)

    def _link(self, target: str, path: tuple[str, ...], stored: str, info: os.stat_result) -> None:
        if not link_stays_inside(path[:-1], target) or readable(target) != target:
            self._note(path, f"not packed: a link to {readable(target)}, outside the outputs")
            return
        self._write(_member(stored, info), target.encode())
        self._list(path, kind="link", target=target, **_status(info))

    def _file(self, fd: int, name: str, path: tuple[str, ...], stored: str) -> None:
        """Pack as many bytes as the file had when it was opened, or as it still has."""
        with file_at(name, fd) as source:
            info = os.fstat(source.fileno())
            if info.st_size > _SPARSE_BYTES and info.st_blocks * 512 < info.st_size / _SPARSE:
                self._note(path, f"not packed: {info.st_size} bytes, almost all of them holes")
                return
            member = _member(stored, info, compress=self._options.compress)
            # Read before the entry is begun: an unreadable file then leaves nothing behind.
            first = source.read(min(_CHUNK, info.st_size))
            digest = hashlib.sha256()
            self._zip.add(member, self._chunks(source, first, info.st_size, path, digest))
            left = info.st_size - member.file_size
            if left and not self._late:
                self._note(path, f"it shrank while it was packed, by {left} bytes")
            elif not left and os.fstat(source.fileno()).st_size > info.st_size:
                self._note(path, "it grew while it was packed; the end is missing")
        self._files += 1
        self._bytes += member.file_size
        sums = {"crc32": f"{member.CRC:08x}", "sha256": digest.hexdigest()}
        self._list(path, kind="file", size=member.file_size, **sums, **_status(info))

    def _chunks(
        self, source: IO[bytes], chunk: bytes, left: int, path: tuple[str, ...], digest: Any
    ) -> Iterator[bytes]:
        """Return `chunk` and what follows it, `left` bytes at most."""
        while chunk and left:
            chunk = chunk[:left]
            digest.update(chunk)
            yield chunk
            left -= len(chunk)
            if left and self._is_late():
                self._note(path, f"cut short: packing ran out of time, {left} bytes missing")
                return
            chunk = self._next(source, left, path)

    def _next(self, source: IO[bytes], left: int, path: tuple[str, ...]) -> bytes:
        try:
            return source.read(min(_CHUNK, left))
        except OSError as error:
            self._note(path, f"reading failed: {error.strerror}")
            return b""

    def _add_empty(self, stored: str, info: os.stat_result) -> None:
        self._names.add(stored.rstrip("/"))
        self._write(_member(stored, info), b"")

    def _write(self, member: zipfile.ZipInfo, data: bytes) -> None:
        member.compress_type = zipfile.ZIP_STORED
        self._zip.writestr(member, data)

    def _unique(self, stored: str) -> str:
        """Return the name, or one like it when escaping made two names equal."""
        name, number = stored, 1
        while name in self._names:
            number += 1
            name = f"{stored}~{number}"
        self._names.add(name)
        return name

    def _is_late(self) -> bool:
        deadline = self._options.deadline
        if deadline is not None and time.monotonic() >= deadline:
            self._late = True
        return self._late


def _status(info: os.stat_result) -> dict[str, Any]:
    return {"mode": f"{stat.S_IMODE(info.st_mode):04o}", "mtime": info.st_mtime}


def _member(stored: str, info: os.stat_result, *, compress: bool = True) -> zipfile.ZipInfo:
    # The format counts from 1980, in two-second steps, and ends in 2107.
    when = time.gmtime(min(max(info.st_mtime, 0), 2**33))[:6]
    first, last = _ZIP_TIMES
    member = zipfile.ZipInfo(stored, min(max(when, first), last))
    member.create_system = _UNIX
    member.external_attr = (info.st_mode & 0xFFFF) << 16
    if stat.S_ISDIR(info.st_mode):
        member.external_attr |= 0x10  # the same for systems that know no modes
    suffix = os.path.splitext(stored)[1].lower()
    stores = suffix in COMPRESSED or not compress
    member.compress_type = zipfile.ZIP_STORED if stores else zipfile.ZIP_DEFLATED
    member.file_size = info.st_size
    member.extra = time_field(info.st_mtime)
    return member
