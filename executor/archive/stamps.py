"""Whether files were changed since a moment."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from executor.files.confined import stat_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class Stamp(NamedTuple):
    """The part of a file's status that changes with its content."""

    size: int
    mtime_ns: int
    inode: int


def snapshot(root: Path, matches: Callable[[str], bool] = bool) -> dict[str, Stamp]:
    """Return the stamps of the regular files below `root` whose relative path matches. A file that
    vanishes meanwhile is left out. Raises OSError."""
    stamps = {}
    for folder, _, names, fd in os.fwalk(root):
        inside = os.path.relpath(folder, root)
        for name in names:
            path = name if inside == "." else f"{inside}/{name}"
            if matches(path):
                with contextlib.suppress(FileNotFoundError):
                    info = stat_at(name, fd)
                    if stat.S_ISREG(info.st_mode):
                        stamps[path] = stamp_of(info)
    return stamps


def save_stamps(stamps: Mapping[str, Stamp], path: Path) -> None:
    """Write a snapshot to a file. Raises OSError."""
    path.write_text(json.dumps(stamps))


def load_stamps(path: Path) -> dict[str, Stamp]:
    """Return the snapshot that `save_stamps` wrote; empty when there is none or it is broken."""
    try:
        return {name: Stamp(*values) for name, values in json.loads(path.read_text()).items()}
    except (OSError, ValueError):
        return {}


def stamp_of(info: os.stat_result) -> Stamp:
    """Return the stamp of a file by its status."""
    return Stamp(info.st_size, info.st_mtime_ns, info.st_ino)
