"""Checkpoints: which files of a running simulation are saved, how often, and how it continues.

A generation is a set of files of one moment, each stored under the SHA-256 of its content, so that
an unchanged file is not sent again. The newest two are kept. The next attempt restores the files of
the newest good one, and runs the task's commands or those that were given for this case.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from simherd.contract import limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Seconds between two generations of a checkpoint, where the task does not say.
CHECKPOINT_EVERY_S = 600.0

#: Folder within the work folder whose whole content belongs to each checkpoint.
FOLDER = "checkpoint"
#: Generations that are kept.
KEPT = 2
#: Files that one generation may have.
MOST_FILES = 10_000
#: `**` that one pattern may have.
_MOST_STARS = 3


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoint options of a task.

    `files` are patterns relative to the work folder (`*`, `?`, `[0-9]` within a name, `**` over
    folders), `every_s` is the time between two generations in seconds, `stored` says whether there
    is a generation to restore.
    """

    files: tuple[str, ...]
    every_s: float = CHECKPOINT_EVERY_S
    stored: bool = False

    @classmethod
    def read(cls, given: Any) -> Checkpoints:
        """Read what a user sent: an object of these fields, or the patterns alone.
        Raises ValueError: naming the field."""
        raw = given if isinstance(given, dict) else {"files": given}
        unknown = set(raw) - {"files", "every_s", "restore"}
        if unknown:
            raise ValueError(f"checkpoint.{min(unknown)}: not known; files, every_s, restore are.")
        files = raw.get("files")
        files = [files] if isinstance(files, str) else files
        if not isinstance(files, list | tuple) or not files:
            raise ValueError(
                f"checkpoint.files: a list of patterns such as '*.cpt', not {files!r}."
            )
        for pattern in files:
            _check_pattern(pattern)
        every = raw.get("every_s", CHECKPOINT_EVERY_S)
        if (
            isinstance(every, bool)
            or not isinstance(every, int | float)
            or not (1 <= every <= limits.MAX_TTL_S)
        ):
            raise ValueError(f"checkpoint.every_s: {every!r} is not a number of seconds from 1 on.")
        return cls(tuple(files), float(every))

    def matches(self, path: str) -> bool:
        """Return whether a file, relative to the work folder, belongs to the checkpoint."""
        if path.startswith(f"{FOLDER}/"):
            return True
        names = path.split("/")
        return any(_match(names, pattern.split("/")) for pattern in self.files)


def _check_pattern(pattern: Any) -> None:
    parts = pattern.split("/") if isinstance(pattern, str) else []
    steps = any(part in {"", ".", ".."} for part in parts)
    # Each `**` multiplies the number of tries.
    if not parts or steps or len(pattern) > 500 or parts.count("**") > _MOST_STARS:
        raise ValueError(
            f"checkpoint.files: {pattern!r} is not a pattern relative to the work folder."
        )


def _match(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a path matches a pattern; `**` stands for any number of folders."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        rest = pattern[1:]
        # At the end it stands for files, so for at least one name.
        first = 0 if rest else 1
        return any(_match(path[i:], rest) for i in range(first, len(path) + 1))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _match(path[1:], pattern[1:])


@dataclass(frozen=True)
class SavedFile:
    """One file of a generation; `path` is relative to the work folder."""

    path: str
    size: int
    mode: int
    mtime_ns: int
    sha256: str


def total_bytes(files: Iterable[SavedFile]) -> int:
    """Return the size of a generation, bytes."""
    return sum(file.size for file in files)
