"""Unpacking an untrusted archive."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from simherd.contract.archive.directory import DirectoryTooLarge, check_count, locate
from simherd.contract.archive.paths import ArchiveRejected, checked_parts, link_stays_inside
from simherd.contract.archive.times import read_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_CHUNK = 1024 * 1024
_ZEROS = bytes(_CHUNK)
#: Shorter runs of zeros are written: a file system's holes are blocks.
_BLOCK = 4096
#: Average bytes of an entry of the central directory, at most.
_ENTRY_BYTES = 512
#: Fixed part of the header before each member's data.
_LOCAL_HEADER_BYTES = 30
_LINK_BYTES = 4096
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})


@dataclass(frozen=True)
class ArchiveLimits:
    """The limits of an unpacked archive."""

    #: Sum of the unpacked files, bytes.
    bytes: int = 256 * 1024**3
    #: Files, folders and links.
    entries: int = 200_000
    #: Nested folders.
    depth: int = 64
    #: Unpacked over packed bytes; not checked below `ratio_from_bytes`.
    ratio: int = 200
    ratio_from_bytes: int = 100 * 1024**2


@dataclass(frozen=True)
class UnpackResult:
    """The result: the number of regular files, and the sum of their sizes in bytes."""

    files: int
    bytes: int


@dataclass(frozen=True)
class _Member:
    info: zipfile.ZipInfo
    parts: tuple[str, ...]
    kind: int
    mode: int


def _go_on() -> None:
    return None


def unpack(
    archive: Path,
    into: Path,
    limits: ArchiveLimits | None = None,
    check: Callable[[], None] = _go_on,
    *,
    keep_modes: bool = False,
) -> UnpackResult:
    """Unpack `archive` into the folder `into`, all of it or nothing.

    `into` is made when missing; what it holds already stays. `check` is called again and again,
    and raises to give up. `keep_modes`: files have the permissions that the archive says, else they
    are readable by all, and executable where it says so. Holes of sparse files are holes again.
    Raises ArchiveRejected, naming member and rule, and OSError when the disk is full or not
    writable.
    """
    limits = limits or ArchiveLimits()
    with open(archive, "rb") as file:
        with _as_rejection():
            _check_end(file, limits)
            zipped = zipfile.ZipFile(file)
        with zipped:
            members = _checked_members(zipped, limits, os.fstat(file.fileno()).st_size)
            into.mkdir(mode=0o755, parents=True, exist_ok=True)
            _check_room(members, into)
            # Inside, not beside: `into` may be a separate file system.
            staging = tempfile.mkdtemp(prefix=".unpack-", dir=into)
            try:
                result = _write(zipped, members, staging, limits, check, keep_modes)
                for name in os.listdir(staging):
                    os.rename(os.path.join(staging, name), into / name)
            finally:
                shutil.rmtree(staging)
    return result


def _check_end(file: IO[bytes], limits: ArchiveLimits) -> None:
    """Check the archive's directory before its numbers decide how much is read."""
    try:
        directory = locate(file, limits.entries, limits.entries * _ENTRY_BYTES)
    except DirectoryTooLarge as error:
        raise ArchiveRejected(f"it has more than {limits.entries} entries") from error
    check_count(file, directory)
    file.seek(0)


def _checked_members(
    zipped: zipfile.ZipFile, limits: ArchiveLimits, archive_bytes: int
) -> list[_Member]:
    """Return every member. Raises ArchiveRejected before anything is written."""
    infos = zipped.infolist()
    if len(infos) > limits.entries:
        raise ArchiveRejected(f"it has more than {limits.entries} entries")
    total = sum(info.file_size for info in infos)
    if total > limits.bytes:
        raise ArchiveRejected(f"it unpacks to {total} bytes, more than {limits.bytes}")
    if total > max(limits.ratio_from_bytes, limits.ratio * archive_bytes):
        raise ArchiveRejected(f"it unpacks to more than {limits.ratio} times its size")
    _check_overlaps(infos, zipped.start_dir)
    members = [_checked_member(info, limits) for info in infos]
    _check_tree(members)
    return [member for member in members if member.parts]


def _check_overlaps(infos: list[zipfile.ZipInfo], directory_at: int) -> None:
    """Refuse members that share bytes, with which a small archive unpacks to a huge one."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    ends = [info.header_offset for info in ordered[1:]] + [directory_at]
    for info, end in zip(ordered, ends, strict=False):
        if info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size > end:
            raise ArchiveRejected("members overlap", info.orig_filename)


def _checked_member(info: zipfile.ZipInfo, limits: ArchiveLimits) -> _Member:
    # The library cuts `filename` at a NUL; `orig_filename` is the archive's.
    name = info.orig_filename
    if info.flag_bits & _ENCRYPTED:
        raise ArchiveRejected("a member is encrypted", name)
    if info.compress_type not in _METHODS:
        raise ArchiveRejected("a member is compressed with something other than deflate", name)
    parts = checked_parts(name, limits.depth)
    mode = info.external_attr >> 16
    kind = stat.S_IFMT(mode) or (stat.S_IFDIR if name.endswith("/") else stat.S_IFREG)
    if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise ArchiveRejected("a member is a device, FIFO or socket", name)
    if (kind == stat.S_IFDIR) != name.endswith("/"):
        raise ArchiveRejected("a member is both a folder and something else", name)
    if kind == stat.S_IFDIR and info.file_size:
        raise ArchiveRejected("a folder has contents", name)
    if kind == stat.S_IFLNK and info.file_size > _LINK_BYTES:
        raise ArchiveRejected("a symlink's target is too long", name)
    return _Member(info, parts, kind, mode)


def _check_tree(members: list[_Member]) -> None:
    """Refuse a name that occurs twice, and a member below a file or a symlink."""
    kinds: dict[tuple[str, ...], int] = {}
    for member in members:
        if member.parts in kinds:
            raise ArchiveRejected("a name occurs twice", member.info.orig_filename)
        kinds[member.parts] = member.kind
    for member in members:
        for end in range(1, len(member.parts)):
            if kinds.get(member.parts[:end], stat.S_IFDIR) != stat.S_IFDIR:
                raise ArchiveRejected(
                    "a member is below a file or symlink", member.info.orig_filename
                )


def _check_room(members: list[_Member], into: Path) -> None:
    present = set(os.listdir(into))
    for member in members:
        if member.parts[0] in present:
            raise ArchiveRejected("a name exists already", member.info.orig_filename)


def _write(
    zipped: zipfile.ZipFile,
    members: list[_Member],
    root: str,
    limits: ArchiveLimits,
    check: Callable[[], None],
    keep_modes: bool,
) -> UnpackResult:
    files = written = 0
    made: set[tuple[str, ...]] = set()
    for member in members:
        folder = member.parts if member.kind == stat.S_IFDIR else member.parts[:-1]
        if folder not in made:
            os.makedirs(os.path.join(root, *folder), mode=0o755, exist_ok=True)
            made.add(folder)
        if member.kind == stat.S_IFREG:
            files += 1
            mode = _mode(member.mode, keep=keep_modes)
            written += _write_file(zipped, member, root, limits.bytes, written, check, mode)
    # Links come last, so that no file can be written through one.
    for member in members:
        if member.kind == stat.S_IFLNK:
            try:
                os.symlink(_target(zipped, member), os.path.join(root, *member.parts))
            except FileExistsError:
                raise _twin(member) from None
    return UnpackResult(files, written)


def _write_file(
    zipped: zipfile.ZipFile,
    member: _Member,
    root: str,
    most: int,
    before: int,
    check: Callable[[], None],
    mode: int,
) -> int:
    try:
        target = os.open(os.path.join(root, *member.parts), _NEW_FILE, mode)
    except FileExistsError:
        # Names that differ only in case or Unicode form, on a file system that does not.
        raise _twin(member) from None
    written = 0
    with open(target, "wb", buffering=0) as file:
        # Not left to the umask: the sandbox user must be able to read it.
        os.fchmod(target, mode)
        with _as_rejection(member):
            source = zipped.open(member.info)
        with source:
            while True:
                check()
                with _as_rejection(member):
                    data = source.read(_CHUNK)
                if not data:
                    break
                written += len(data)
                if before + written > most:
                    raise ArchiveRejected(f"it unpacks to more than {most} bytes")
                _write_all(file, data)
        file.truncate(written)
        mtime = read_time(member.info.extra)
        if mtime is not None:
            os.utime(target, (mtime, mtime))
    if written != member.info.file_size:
        raise ArchiveRejected("a member is shorter than it says", member.info.orig_filename)
    return written


def _twin(member: _Member) -> ArchiveRejected:
    rule = "two of its names are the same name on this file system"
    return ArchiveRejected(rule, member.info.orig_filename)


def _mode(mode: int, *, keep: bool) -> int:
    if keep and mode & 0o777:
        return mode & 0o777
    return 0o755 if mode & 0o111 else 0o644


def _write_all(file: IO[bytes], data: bytes) -> None:
    if len(data) >= _BLOCK and data == _ZEROS[: len(data)]:
        file.seek(len(data), os.SEEK_CUR)
        return
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _target(zipped: zipfile.ZipFile, member: _Member) -> str:
    with _as_rejection(member):
        target = zipped.read(member.info).decode()
    if not link_stays_inside(member.parts[:-1], target):
        raise ArchiveRejected("a symlink leads outside", member.info.orig_filename)
    return target


@contextlib.contextmanager
def _as_rejection(member: _Member | None = None) -> Iterator[None]:
    """Raise ArchiveRejected for the many errors of the zip library about a broken archive."""
    name = member.info.orig_filename if member else None
    try:
        yield
    except OSError as error:
        if error.errno != errno.EINVAL:  # a negative position; anything else is the disk
            raise
        raise ArchiveRejected("it is broken", name) from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        LookupError,
        NotImplementedError,
        OverflowError,
        RuntimeError,
        ValueError,
    ) as error:
        raise ArchiveRejected(f"it is broken ({error})", name) from error
