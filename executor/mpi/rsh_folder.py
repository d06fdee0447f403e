"""The folder in which mpirun's stand-in for a remote shell leaves its notes: see rsh.sh.

Simulations may write anything into it. So nothing in it is followed, and it is held by its
descriptor: a folder that takes its place is not looked at.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_NOTE = re.compile(r"[0-9]{1,10}\.note")
#: Longest note, bytes: a host and a command line.
_LONGEST = 65536
#: Entries of the folder that are looked at.
_MOST = 4096


@dataclass(frozen=True)
class RshRequest:
    """One request: run the line on the host."""

    name: str
    #: Differs from that of every other note of the folder.
    stamp: int
    host: str
    line: str


class RshFolder:
    """One command's folder."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, before anything of the simulation runs."""
        folder.mkdir(exist_ok=True, mode=0o755)
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)

    def put(self, name: str, text: str, mode: int = 0o644) -> None:
        """Write a file, whole or not at all."""
        where = self._descriptor
        new = f".{name}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=where)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(new, flags, mode, dir_fd=where), "w") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
        os.rename(new, name, src_dir_fd=where, dst_dir_fd=where)

    def put_shell(self) -> None:
        """Lay the stand-in for a remote shell there."""
        self.put("rsh", files(__package__).joinpath("rsh.sh").read_text(), 0o755)

    def waiting(self) -> list[RshRequest]:
        """The notes that are there. What is no note is removed, or stays where it does no harm."""
        with os.scandir(self._descriptor) as entries:
            names = [e.name for e, _ in zip(entries, range(_MOST), strict=False)]
        return [n for name in sorted(names) if _NOTE.fullmatch(name) and (n := self._read(name))]

    def _read(self, name: str) -> RshRequest | None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(name, flags, dir_fd=self._descriptor), "rb") as file:
                found = os.fstat(file.fileno())
                if stat.S_ISREG(found.st_mode) and found.st_size <= _LONGEST:
                    host, _, line = file.read(_LONGEST).decode().partition("\n")
                    stem = name.removesuffix(".note")
                    return RshRequest(stem, found.st_mtime_ns, host, line.rstrip("\n"))
        except (OSError, ValueError):
            pass
        self._drop(name)
        return None

    def taken(self, note: RshRequest) -> None:
        """It is being seen to."""
        self._drop(f"{note.name}.note")

    def answer(self, name: str, code: int) -> None:
        """Say how the line of a note ended."""
        # The simulation may have filled its disk, or made a folder of that name: its own loss.
        with contextlib.suppress(OSError):
            self.put(f"{name}.code", f"{code}\n")

    def _drop(self, name: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self._descriptor)

    def close(self) -> None:
        """Look no more."""
        os.close(self._descriptor)
