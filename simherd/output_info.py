"""What is in a task's output archive."""

from __future__ import annotations

from dataclasses import dataclass

from simherd.utils import format_bytes
from simherd.visible import visible_line


@dataclass(frozen=True)
class FileInfo:
    """One output file. Sizes are bytes."""

    name: str
    size: int
    compressed_size: int


@dataclass(frozen=True)
class TaskOutputInfo:
    """The output archive of a task; printed, it is a table.

    Attributes:
        size: the archive's own size, bytes.
        contents: the files in it.
    """

    size: int
    contents: list[FileInfo]

    @property
    def n_files(self) -> int:
        """How many files there are."""
        return len(self.contents)

    @property
    def total_size_bytes(self) -> int:
        """Sum of the files' sizes once unpacked."""
        return sum(f.size for f in self.contents)

    @property
    def total_compressed_size_bytes(self) -> int:
        """Sum of the files' sizes inside the archive."""
        return sum(f.compressed_size for f in self.contents)

    def __str__(self) -> str:
        lines = [f"Archive size: {format_bytes(self.size)}", "Contents:"]
        lines.append(f"  {'Size':<12} {'Compressed':<12} Name")
        lines += [
            f"  {format_bytes(f.size):<12} {format_bytes(f.compressed_size):<12} "
            f"{visible_line(f.name)}"
            for f in self.contents
        ]
        return "\n".join(lines)
