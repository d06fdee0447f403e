"""Opening and listing what a simulation has in its work folder, and nothing else.

A simulation may make links, pipes and folders as it likes, and exchange them at any moment: every
step opens one name in a folder that is open already, and never follows a link.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import re
import stat
from typing import IO, TYPE_CHECKING

from simherd.contract.archive.paths import ArchiveRejected, checked_parts, link_stays_inside
from simherd.contract.live_frames import FileEntry, FileKind, Trouble

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK a FIFO put in a file's place would hold the agent for ever.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: Levels of folders that are entered; each holds a descriptor open.
MAX_DEPTH = 128
_ODD = re.compile(r"[\x00-\x1f\x7f-\x9f\\\udc80-\udcff]")
#: Links that lead to one another.
_MAX_LINKS = 8
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR})


class CannotShow(Exception):
    """A file cannot be shown; `trouble` says of which kind that is."""

    def __init__(self, trouble: Trouble, detail: str) -> None:
        super().__init__(detail)
        self.trouble = trouble


def readable(name: str) -> str:
    """Return the name in UTF-8, with bytes that are not, control characters and backslashes as
    `%XX`."""
    return _ODD.sub(lambda odd: "".join(f"%{byte:02X}" for byte in os.fsencode(odd.group())), name)


@contextlib.contextmanager
def folder_at(name: str | Path, parent: int | None = None) -> Iterator[int]:
    """Open a folder: a name in the open folder `parent`, or without one a path that is trusted.
    Raises OSError."""
    flags = _FOLDER if parent is not None else os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    fd = os.open(name, flags, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


def file_at(name: str, folder: int) -> io.FileIO:
    """Open the regular file `name` in an open folder, unbuffered. Raises OSError; with ENXIO when
    it is not a regular file."""
    fd = os.open(name, _FILE, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ENXIO, "not a regular file", name)
    return io.FileIO(fd)


def stat_at(name: str, folder: int) -> os.stat_result:
    """Return the status of a name in an open folder, of a link itself. Raises OSError."""
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def open_file(root: Path, name: str) -> IO[bytes]:
    """Open the regular file `name` below `root`; links are followed while they stay there.

    Raises:
        CannotShow: there is none, or the name leads elsewhere.
        OSError: it cannot be read.
    """
    try:
        parts = checked_parts(name, MAX_DEPTH)
    except ArchiveRejected as error:
        raise CannotShow(Trouble.INVALID, f"{name[:200]!r}: {error.rule}.") from error
    if not parts:
        raise CannotShow(Trouble.INVALID, "A file's name is needed.")
    for _ in range(_MAX_LINKS):
        if not parts:  # a link to the top
            raise CannotShow(Trouble.NOT_A_FILE, f"{name!r} is not a file.")
        opened = _try_open(root, parts, name)
        if not isinstance(opened, tuple):
            return opened
        parts = opened
    raise CannotShow(Trouble.INVALID, f"{name!r}: too many links lead to one another.")


def _try_open(root: Path, parts: tuple[str, ...], name: str) -> IO[bytes] | tuple[str, ...]:
    """Return the file; or, where a link stands in the way, the parts that it leads to."""
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(folder_at(root))
        except FileNotFoundError as error:  # it is made once the inputs are there
            raise CannotShow(Trouble.NOT_FOUND, f"There is no file {name!r}.") from error
        for index, part in enumerate(parts):
            try:
                if index == len(parts) - 1:
                    return file_at(part, folder)
                folder = stack.enter_context(folder_at(part, folder))
            except OSError as error:
                # A link: ELOOP in the place of a file, ENOTDIR in that of a folder.
                target = _link(folder, part)
                if target is not None:
                    return _led_to(parts, index, target, name)
                if error.errno in _NOT_THERE:
                    raise CannotShow(Trouble.NOT_FOUND, f"There is no file {name!r}.") from error
                if error.errno == errno.ENXIO:  # a folder, FIFO, socket or device
                    raise CannotShow(Trouble.NOT_A_FILE, f"{name!r} is not a file.") from error
                raise
    raise AssertionError("unreachable")


def _link(folder: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        return None


def _led_to(parts: tuple[str, ...], index: int, target: str, name: str) -> tuple[str, ...]:
    folder = list(parts[:index])
    if not link_stays_inside(parts[:index], target):
        raise CannotShow(Trouble.INVALID, f"{name!r} is a link to somewhere else.")
    for step in target.split("/"):
        if step == "..":
            folder.pop()
        elif step not in {"", "."}:
            folder.append(step)
    return (*folder, *parts[index + 1 :])


def walk(root: Path, most: int | None = None) -> Iterator[FileEntry]:
    """Return everything below `root`, each folder before its content; skip what vanishes meanwhile.

    `most`: names of each folder to read, which are then sorted. Without it they come unsorted,
    since a folder may hold more names than there is memory for.

    Raises OSError when `root` exists and cannot be read.
    """
    with contextlib.ExitStack() as stack:
        try:
            top = stack.enter_context(folder_at(root))
        except FileNotFoundError:  # it is made once the inputs are there
            return
        yield from _walk(top, (), most)


def _names(folder: int, most: int | None) -> Iterator[str]:
    with os.scandir(folder) as scan:
        names = (entry.name for entry in scan)
        yield from names if most is None else sorted(itertools.islice(names, most))


def _walk(folder: int, inside: tuple[str, ...], most: int | None) -> Iterator[FileEntry]:
    for name in _names(folder, most):
        try:
            info = stat_at(name, folder)
        except OSError:
            continue
        kind = _kind(info.st_mode)
        path = (*inside, name)
        # Named as in the output archive; so no name can control a terminal.
        yield FileEntry(readable("/".join(path)), kind, info.st_size, info.st_mtime)
        if kind is FileKind.FOLDER and len(path) < MAX_DEPTH:
            with contextlib.suppress(OSError), folder_at(name, folder) as inner:
                yield from _walk(inner, path, most)


def _kind(mode: int) -> FileKind:
    if stat.S_ISREG(mode):
        return FileKind.FILE
    if stat.S_ISDIR(mode):
        return FileKind.FOLDER
    return FileKind.LINK if stat.S_ISLNK(mode) else FileKind.OTHER
