"""Opening and listing what a simulation has in its work folder, and nothing else.

A simulation may make links, pipes and folders as it likes, and exchange them at any moment: every
step opens one name in a folder that is open already, and follows no link by itself.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from typing import IO, TYPE_CHECKING

from executor.archive import readable
from simherd.contract.archive.paths import ArchiveRejected, checked_parts, link_stays_inside
from simherd.contract.live_frames import FileEntry, FileKind, Trouble

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK a FIFO put in a file's place would hold the agent for ever.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: Folders below one another that are looked into.
MAX_DEPTH = 128
#: Links that lead to one another.
_MAX_LINKS = 8
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR})


class CannotShow(Exception):
    """A file cannot be shown; `trouble` says of which kind that is."""

    def __init__(self, trouble: Trouble, detail: str) -> None:
        super().__init__(detail)
        self.trouble = trouble


def open_file(root: Path, name: str) -> IO[bytes]:
    """The regular file `name` below `root`; links in it are followed while they stay there.

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
            raise CannotShow(Trouble.NOT_A_FILE, f"{name!r} is no file.")
        found = _try_open(root, parts, name)
        if not isinstance(found, tuple):
            return found
        parts = found
    raise CannotShow(Trouble.INVALID, f"{name!r}: too many links lead to one another.")


def _try_open(root: Path, parts: tuple[str, ...], name: str) -> IO[bytes] | tuple[str, ...]:
    """The file; or, where a link stood in the way, the parts that it leads to."""
    with contextlib.ExitStack() as stack:
        try:
            here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:  # it is made once the inputs are there
            raise CannotShow(Trouble.NOT_FOUND, f"There is no file {name!r}.") from error
        stack.callback(os.close, here)
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            try:
                opened = os.open(part, _FILE if last else _FOLDER, dir_fd=here)
            except OSError as error:
                # A link: ELOOP where a file is wanted, ENOTDIR where a folder is.
                target = _link(here, part)
                if target is not None:
                    return _led_to(parts, index, target, name)
                if error.errno in _NOT_THERE:
                    raise CannotShow(Trouble.NOT_FOUND, f"There is no file {name!r}.") from error
                if error.errno == errno.ENXIO:  # a socket
                    raise CannotShow(Trouble.NOT_A_FILE, f"{name!r} is no file.") from error
                raise
            if last and stat.S_ISREG(os.fstat(opened).st_mode):
                return os.fdopen(opened, "rb", buffering=0)
            stack.callback(os.close, opened)
            if last:
                raise CannotShow(Trouble.NOT_A_FILE, f"{name!r} is no file.")
            here = opened
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
    """Everything below `root`, a folder before what is in it; what vanishes meanwhile is left out.

    `most`: in the order of names, of which no folder's more than so many are looked at. Without, in
    no order, since a folder may hold more names than there is memory for.

    Raises OSError when `root` is there and cannot be read.
    """
    try:
        top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:  # it is made once the inputs are there
        return
    try:
        yield from _walk(top, (), most)
    finally:
        os.close(top)


def _names(folder: int, most: int | None) -> Iterator[str]:
    with os.scandir(folder) as scan:
        names = (entry.name for entry in scan)
        yield from names if most is None else sorted(itertools.islice(names, most))


def _walk(folder: int, inside: tuple[str, ...], most: int | None) -> Iterator[FileEntry]:
    for name in _names(folder, most):
        try:
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            continue
        kind = _kind(info.st_mode)
        path = (*inside, name)
        # As it will be among the outputs: nothing in it steers a terminal.
        yield FileEntry(readable("/".join(path)), kind, info.st_size, info.st_mtime)
        if kind is FileKind.FOLDER and len(path) < MAX_DEPTH:
            with contextlib.suppress(OSError):
                inner = os.open(name, _FOLDER, dir_fd=folder)
                try:
                    yield from _walk(inner, path, most)
                finally:
                    os.close(inner)


def _kind(mode: int) -> FileKind:
    if stat.S_ISREG(mode):
        return FileKind.FILE
    if stat.S_ISDIR(mode):
        return FileKind.FOLDER
    return FileKind.LINK if stat.S_ISLNK(mode) else FileKind.OTHER
