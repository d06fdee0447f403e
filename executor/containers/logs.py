"""Log files with a size limit, which the task cannot redirect to another file."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from executor.containers.base import ContainerSpec, Exit, NotStarted

if TYPE_CHECKING:
    from pathlib import Path

_OPEN = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Bytes kept free below the limit for the line that says what was dropped.
_NOTE_BYTES = 128


def open_log(path: Path, work_dir: Path) -> int:
    """Open a log for appending; a symlink or special file in its place is replaced.

    An earlier command of the task may have put anything into the work folder, and the agent may
    be root: no symlink is followed below `work_dir`. Raises OSError.
    """
    try:
        folders = path.parent.relative_to(work_dir).parts
        start = work_dir
    except ValueError:
        folders, start = (), path.parent
    folder = os.open(start, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in folders:
            inner = os.open(name, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        return _open_regular(path.name, folder)
    finally:
        os.close(folder)


def _open_regular(name: str, folder: int) -> int:
    with contextlib.suppress(OSError):
        fd = os.open(name, _OPEN, 0o644, dir_fd=folder)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    return os.open(name, _OPEN | os.O_EXCL, 0o644, dir_fd=folder)


class CappedLog:
    """A log file that stops growing at `limit` bytes and says so in its last line. The limit covers
    what earlier commands wrote to the same file. Used by one thread at a time."""

    def __init__(self, descriptor: int, limit: int) -> None:
        """`descriptor`: a file of `open_log`, which `close` closes."""
        self._fd = descriptor
        self._limit = max(limit - _NOTE_BYTES, 0)
        self._size = os.fstat(self._fd).st_size
        self._dropped = 0
        self._closed = False

    def fileno(self) -> int:
        """Return the descriptor for a process that writes itself; then call `trim` regularly."""
        return self._fd

    def write(self, data: bytes) -> None:
        """Append what fits and count the rest. A full disk counts as dropped, too."""
        kept = memoryview(data)[: max(self._limit - self._size, 0)]
        self._dropped += len(data) - len(kept)
        while kept:
            try:
                written = os.write(self._fd, kept)
            except OSError:
                self._dropped += len(kept)
                return
            self._size += written
            kept = kept[written:]

    def trim(self) -> None:
        """Cut off what a process wrote by itself beyond the limit."""
        size = os.fstat(self._fd).st_size
        # What an earlier command left above the limit (its last line) stays.
        ceiling = max(self._limit, self._size)
        if size > ceiling:
            os.ftruncate(self._fd, ceiling)
            self._dropped += size - ceiling

    def close(self) -> None:
        """Write the last line if something was dropped, and close. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._dropped:
            note = f"\n[simherd: the log is full, {self._dropped} bytes were dropped]\n"
            with contextlib.suppress(OSError):
                os.write(self._fd, note.encode())
        os.close(self._fd)


def open_capped(path: Path, spec: ContainerSpec) -> CappedLog:
    """Open a log file of a command. Raises OSError."""
    return CappedLog(open_log(path, spec.work_dir), spec.log_limit_bytes)


def not_started(spec: ContainerSpec, exit_: Exit, stderr: CappedLog) -> NotStarted:
    """Return a command that could not be executed, after writing the reason to stderr."""
    stderr.write(f"simherd: {exit_.message}\n".encode())
    stderr.close()
    return NotStarted(spec.name, exit_)
