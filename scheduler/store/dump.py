"""Writing and reading the tables of a whole database, a row at a time."""

from __future__ import annotations

import hashlib
import json
import zipfile
from typing import IO, TYPE_CHECKING, Any

from sqlalchemy import JSON, MetaData, func, insert, inspect, select, text

from scheduler.store import schema
from scheduler.store.models import Base
from simherd.contract.backups import MANIFEST, BackupManifest, BadBackup, TableSum, member

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine, Table

#: Rows that are read or written at a time.
_ROWS = 1000


class _Sink:
    """Collects the bytes of a zip until they are taken; it cannot seek."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: no bytes are held back."""

    def take(self) -> bytes:
        data, self._pieces = b"".join(self._pieces), []
        return data


def dump(engine: Engine, release: str, now: float) -> Iterator[bytes]:
    """Yield a backup in pieces: a snapshot, while others go on writing.

    `release`: this Simherd's version, for the manifest; `now`: the moment, for the manifest,
    seconds since the epoch.

    Raises BadBackup: the database has no tables.
    """
    options: dict[str, Any] = {"writes": False}
    if engine.dialect.name == "postgresql":
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    sink = _Sink()
    with engine.connect().execution_options(**options) as connection:
        revision = schema.revision_of(connection)
        if revision is None:
            raise BadBackup("The database has no tables: there is nothing to back up.")
        sums: dict[str, TableSum] = {}
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload]
            for table in _tables(connection):
                # Its length is not known when it is begun.
                with archive.open(member(table.name), "w", force_zip64=True) as file:
                    for so_far in _write(connection, table, file):
                        sums[table.name] = so_far
                        yield sink.take()
            archive.writestr(MANIFEST, BackupManifest(release, revision, now, sums).encode())
        yield sink.take()


def _tables(connection: Connection) -> list[Table]:
    """Return the tables that the database has; those that others refer to first."""
    metadata = MetaData()
    metadata.reflect(connection, only=lambda name, _: name != schema.VERSION_TABLE)
    for table in metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, JSON):
                # A missing value is SQL's NULL, not the JSON word null.
                column.type = JSON(none_as_null=bool(column.nullable))
    return metadata.sorted_tables


def _write(connection: Connection, table: Table, file: IO[bytes]) -> Iterator[TableSum]:
    """Write the rows of a table; yield after each batch the sum of what was written."""
    digest, count = hashlib.sha256(), 0
    query = select(table).order_by(*table.primary_key.columns)
    rows = connection.execution_options(yield_per=_ROWS).execute(query)
    for batch in rows.mappings().partitions():
        lines = [json.dumps(dict(row), ensure_ascii=False, separators=(",", ":")) for row in batch]
        data = "".join(f"{line}\n" for line in lines).encode()
        file.write(data)
        digest.update(data)
        count += len(batch)
        yield TableSum(count, digest.hexdigest())
    yield TableSum(count, digest.hexdigest())


def is_empty(connection: Connection) -> bool:
    """Return whether a database holds nothing that a restore would destroy."""
    return not any(
        connection.scalar(select(func.count()).select_from(table))
        for table in _tables(connection)
        if table.name in Base.metadata.tables and table.name != "schema_rule"
    )


def load(connection: Connection, archive: zipfile.ZipFile, manifest: BackupManifest) -> None:
    """Replace the content of a database by a backup that was checked, with the newest schema.

    The change is invisible to others until the caller's transaction ends.

    Raises BadBackup: its schema is not known here, or a row cannot be taken.
    """
    if manifest.revision not in schema.known():
        raise BadBackup(
            f"The backup was made by Simherd {manifest.simherd} with the schema "
            f"{manifest.revision}; this one knows them up to {schema.known()[-1]}. Restore with "
            "that release or a later one."
        )
    _drop(connection)
    schema.change(connection, manifest.revision)
    for table in _tables(connection):
        # A migration may have added rows.
        connection.execute(table.delete())
        if table.name in manifest.tables:
            _read(connection, table, archive)
    if connection.dialect.name == "postgresql":
        _wind_sequences(connection)
    schema.change(connection)


def _drop(connection: Connection) -> None:
    metadata = MetaData()
    names = {*Base.metadata.tables, schema.VERSION_TABLE}
    metadata.reflect(
        connection, only=[n for n in inspect(connection).get_table_names() if n in names]
    )
    metadata.drop_all(connection)


def _read(connection: Connection, table: Table, archive: zipfile.ZipFile) -> None:
    batch: list[dict[str, Any]] = []
    with archive.open(member(table.name)) as lines:
        for line in lines:
            batch.append(json.loads(line))
            if len(batch) == _ROWS:
                connection.execute(insert(table), batch)
                batch = []
    if batch:
        connection.execute(insert(table), batch)


def _wind_sequences(connection: Connection) -> None:
    """Continue PostgreSQL's sequences after the highest restored number."""
    for table in _tables(connection):
        for column in table.primary_key.columns:
            named = {"table": table.name, "column": column.name}
            sequence = connection.scalar(
                text("SELECT pg_get_serial_sequence(:table, :column)"), named
            )
            highest = connection.scalar(select(func.max(column)))
            if sequence is not None and highest is not None:
                connection.execute(select(func.setval(sequence, highest)))


def others_use_it(engine: Engine) -> bool:
    """Return whether other processes are connected, as far as the database shows it."""
    if engine.dialect.name == "postgresql":
        others = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        with engine.connect() as connection:
            return bool(connection.scalar(text(others)))
    return _sqlite_is_open(str(engine.url.database))


def _sqlite_is_open(path: str) -> bool:
    """Return whether another connection has the file, which prevents an exclusive lock."""
    import sqlite3

    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        # Before any read: later it would not hold for the log beside the file.
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return True
    finally:
        connection.close()
    return False
