"""What tells that a file was not touched since a moment."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Stamp(NamedTuple):
    """What tells that a file was not touched."""

    size: int
    mtime_ns: int
    inode: int


def snapshot(root: Path) -> dict[str, Stamp]:
    """The regular files below `root` as they are now, by relative path. Raises OSError."""
    found = {}
    for folder, _, names, fd in os.fwalk(root):
        inside = os.path.relpath(folder, root)
        for name in names:
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISREG(info.st_mode):
                found[name if inside == "." else f"{inside}/{name}"] = stamp_of(info)
    return found


def save_stamps(stamps: Mapping[str, Stamp], path: Path) -> None:
    """Write a snapshot to a file. Raises OSError."""
    path.write_text(json.dumps(stamps))


def load_stamps(path: Path) -> dict[str, Stamp]:
    """The snapshot that `save_stamps` wrote; empty when there is none or it is broken."""
    try:
        return {name: Stamp(*values) for name, values in json.loads(path.read_text()).items()}
    except (OSError, ValueError):
        return {}


def stamp_of(info: os.stat_result) -> Stamp:
    """The stamp of a file by its status."""
    return Stamp(info.st_size, info.st_mtime_ns, info.st_ino)
