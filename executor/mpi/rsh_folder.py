"""The folder in which rsh.sh, mpirun's replacement for a remote shell, writes its requests.

Simulations may write anything into it. So no link in it is followed, and the folder is kept open by
its descriptor: a folder that replaces it is not read.
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
#: Longest request file, bytes: a host and a command line.
_LONGEST = 65536
#: Entries of the folder that are read.
_MOST = 4096


@dataclass(frozen=True)
class RshRequest:
    """A request to run a line on a host."""

    name: str
    #: Differs from the stamp of every other request of the folder.
    stamp: int
    host: str
    line: str


class RshFolder:
    """The folder of one command."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, before anything of the simulation runs."""
        folder.mkdir(exist_ok=True, mode=0o755)
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)

    def put(self, name: str, text: str, mode: int = 0o644) -> None:
        """Write a file atomically."""
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
        """Write rsh.sh into the folder."""
        self.put("rsh", files(__package__).joinpath("rsh.sh").read_text(), 0o755)

    def waiting(self) -> list[RshRequest]:
        """Return the requests that wait. A file that is not a request is removed."""
        with os.scandir(self._descriptor) as entries:
            names = [e.name for e, _ in zip(entries, range(_MOST), strict=False)]
        return [r for name in sorted(names) if _NOTE.fullmatch(name) and (r := self._read(name))]

    def _read(self, name: str) -> RshRequest | None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(name, flags, dir_fd=self._descriptor), "rb") as file:
                info = os.fstat(file.fileno())
                if stat.S_ISREG(info.st_mode) and info.st_size <= _LONGEST:
                    host, _, line = file.read(_LONGEST).decode().partition("\n")
                    stem = name.removesuffix(".note")
                    return RshRequest(stem, info.st_mtime_ns, host, line.rstrip("\n"))
        except (OSError, ValueError):
            pass
        self._drop(name)
        return None

    def remove(self, request: RshRequest) -> None:
        """Remove a request that was sent or refused."""
        self._drop(f"{request.name}.note")

    def answer(self, name: str, code: int) -> None:
        """Write the exit code of a request's line for rsh.sh."""
        # A simulation that filled its disk, or made a folder of that name, harms only itself.
        with contextlib.suppress(OSError):
            self.put(f"{name}.code", f"{code}\n")

    def _drop(self, name: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self._descriptor)

    def close(self) -> None:
        """Close the folder."""
        os.close(self._descriptor)
