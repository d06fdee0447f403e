"""The format of a backup: a zip with a file of JSON lines per table, and a manifest.

The manifest is written last, and the directory of a zip comes at its end: a truncated backup has
neither. The checksums detect damage, not forgery.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from simherd.contract.typed_json import WrongJson, from_json, parse_object

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
MANIFEST = "manifest.json"
#: Bytes of a member that are read at a time.
_PIECE = 1024 * 1024


class BadBackup(Exception):
    """A file is not a backup, truncated, or damaged; the message says which and what to do."""


@dataclass(frozen=True)
class TableSum:
    """How many rows a table has, and the SHA-256 of its lines."""

    rows: int
    sha256: str


@dataclass(frozen=True)
class BackupManifest:
    """The content of a backup."""

    #: The release that made it.
    simherd: str
    #: The schema of its tables.
    revision: str
    #: The moment of the snapshot, seconds since the epoch.
    created_at: float
    tables: dict[str, TableSum]
    format: int = FORMAT

    @property
    def rows(self) -> int:
        """Return the number of rows of all tables."""
        return sum(table.rows for table in self.tables.values())

    def encode(self) -> str:
        """Return the text of the manifest's file."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def decode(cls, text: bytes) -> BackupManifest:
        """Read what `encode` wrote. Raises BadBackup."""
        try:
            raw = parse_object(text, MANIFEST)
            if raw.get("format") == FORMAT:
                return from_json(cls, raw, MANIFEST)
        except WrongJson as error:
            raise BadBackup(f"The backup's {MANIFEST} cannot be read: {error}") from error
        raise BadBackup(
            f"The backup has the format {raw.get('format')}, and this Simherd reads {FORMAT}. "
            f"Use the Simherd that made it, {raw.get('simherd')}, or a later one."
        )


def member(table: str) -> str:
    """Return the name of a table's file."""
    return f"tables/{table}.jsonl"


def check(file: Path) -> BackupManifest:
    """Read and verify a whole backup; return its manifest.

    Raises:
        BadBackup: it is not a backup, truncated, or damaged.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            manifest = BackupManifest.decode(archive.read(MANIFEST))
            for table, expected in manifest.tables.items():
                if _sum(archive, member(table)) != expected:
                    raise BadBackup(f"{file}: the table {table} is not as it was written.")
            return manifest
    except (zipfile.BadZipFile, KeyError, EOFError, zlib.error) as error:
        raise BadBackup(
            f"{file} is not a backup, or not the whole of one: {error}. Use another one."
        ) from error


def _sum(archive: zipfile.ZipFile, name: str) -> TableSum:
    digest, rows = hashlib.sha256(), 0
    with archive.open(name) as lines:
        while piece := lines.read(_PIECE):
            digest.update(piece)
            rows += piece.count(b"\n")
    return TableSum(rows, digest.hexdigest())
