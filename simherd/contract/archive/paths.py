"""Which names and links may be in an archive; the same rules for reading and for writing."""

from __future__ import annotations

import re

#: Characters that control a terminal.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DRIVE = re.compile(r"[A-Za-z]:")
#: Longest file name of Linux file systems, bytes.
NAME_BYTES = 255
#: Longest path the kernel accepts, bytes, with its end and room for the work folder before it.
PATH_BYTES = 3500


class ArchiveRejected(Exception):
    """The archive breaks a rule; none of it was left on disk."""

    def __init__(self, rule: str, member: str | None = None) -> None:
        where = f" (at {member!r})" if member is not None else ""
        super().__init__(f"The archive was refused: {rule}{where}.")
        self.rule = rule
        self.member = member


def checked_parts(name: str, depth: int) -> tuple[str, ...]:
    """Return the folders and file of a member's name. Raises ArchiveRejected."""
    if CONTROL.search(name):
        raise ArchiveRejected("a name contains a control character", name)
    if "\\" in name:
        raise ArchiveRejected("a name contains a backslash", name)
    if name.startswith("/") or _DRIVE.match(name):
        raise ArchiveRejected("a name is an absolute path", name)
    parts = tuple(part for part in name.removesuffix("/").split("/") if part != ".")
    if ".." in parts:
        raise ArchiveRejected("a name leads out of its folder with '..'", name)
    if "" in parts:
        raise ArchiveRejected("a name is empty or has an empty part", name)
    if len(parts) > depth:
        raise ArchiveRejected(f"a name is nested deeper than {depth} folders", name[:200])
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        raise ArchiveRejected("a name is not valid Unicode", name) from None
    if max(sizes, default=0) > NAME_BYTES or sum(sizes) + len(sizes) > PATH_BYTES:
        raise ArchiveRejected("a name is too long", name[:200])
    return parts


def link_stays_inside(folder: tuple[str, ...], target: str) -> bool:
    """Return whether a symlink in `folder` can only lead to a place below the root.

    `..` counts only at the start, where it climbs real folders: after a name it could climb out
    of wherever another link led to.
    """
    if not target or target.startswith("/") or "\0" in target or "\\" in target:
        return False
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = 0
    while climbs < len(parts) and parts[climbs] == "..":
        climbs += 1
    return climbs <= len(folder) and ".." not in parts[climbs:]
