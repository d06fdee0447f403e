"""The list of what an output archive holds, stored beside it: one JSON object per line."""

from __future__ import annotations

import json
import tempfile
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from executor.archive import Listing, PackResult

#: Bytes of a manifest that are held in memory; a longer one goes to a file.
_IN_MEMORY = 4 * 1024**2


class OutputManifest:
    """The lines of a manifest: path, kind, size, mode, mtime, checksums; or path and a note."""

    def __init__(self, folder: Path) -> None:
        """`folder`: for a long list; not the attempt's folder, whose disk may be full."""
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            _IN_MEMORY, "w+b", dir=str(folder)
        )

    def __enter__(self) -> OutputManifest:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, entry: Listing) -> None:
        """Add a line."""
        self._file.write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")

    def finish(self, packed: PackResult) -> bytes:
        """Return the whole list; its last line holds the sums."""
        self.add(
            {
                "files": packed.files,
                "bytes": packed.bytes,
                "archive_bytes": packed.zipped_bytes,
                "complete": packed.complete,
            }
        )
        self._file.seek(0)
        return self._file.read()
