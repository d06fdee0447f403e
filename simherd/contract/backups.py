"""What a backup of the task store is: a zip with a file of JSON lines per table, and a manifest.

The manifest is written last, and a zip's own directory comes after everything: a backup that was
cut short has neither. The checksums are there to find damage; who can write a backup can make new
ones.
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
    """A file is no backup, not whole, or damaged; the message says which and what to do."""


@dataclass(frozen=True)
class TableSum:
    """How many rows a table has, and the SHA-256 of its lines."""

    rows: int
    sha256: str


@dataclass(frozen=True)
class BackupManifest:
    """What a backup holds."""

    #: The release that made it.
    simherd: str
    #: The schema of its tables.
    revision: str
    #: Seconds since the epoch: everything is as it was at this moment.
    created_at: float
    tables: dict[str, TableSum]
    format: int = FORMAT

    @property
    def rows(self) -> int:
        """The rows of all tables."""
        return sum(table.rows for table in self.tables.values())

    def encode(self) -> str:
        """The text of the manifest's file."""
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
    """The name of a table's file."""
    return f"tables/{table}.jsonl"


def check(file: Path) -> BackupManifest:
    """Read a backup whole, and answer what it holds.

    Raises:
        BadBackup: it is none, not whole, or something in it is not as it was written.
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
            f"{file} is no backup, or not the whole of one: {error}. Use another one."
        ) from error


def _sum(archive: zipfile.ZipFile, name: str) -> TableSum:
    digest, rows = hashlib.sha256(), 0
    with archive.open(name) as lines:
        while piece := lines.read(_PIECE):
            digest.update(piece)
            rows += piece.count(b"\n")
    return TableSum(rows, digest.hexdigest())
