"""Backups of the task store, and putting one back."""

from __future__ import annotations

import os
import time
import zipfile
from importlib.metadata import version
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from scheduler.services.accounts.audit import add_audit_entry
from scheduler.services.backup.fence import post_restore_fence
from scheduler.services.errors import Conflict
from scheduler.store import dump
from simherd.contract.backups import BackupManifest, BadBackup, check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scheduler.store.engine import Store


def stream_backup(store: Store, actor: str) -> Iterator[bytes]:
    """Yield a backup in pieces; the audit log records it."""
    with store.write() as session:
        add_audit_entry(session, actor, "backup", "database")
    yield from dump.dump(store.engine, version("simherd"), time.time())


def write_backup(store: Store, actor: str, file: Path) -> BackupManifest:
    """Write a backup to a file that only its owner can read, and read it back.

    Raises:
        Conflict: the file exists.
        OSError: it cannot be written.
    """
    part = file.with_name(f"{file.name}.part")
    if file.exists():
        raise Conflict(f"file: {file} is there already. Choose another name, or remove it.")
    part.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as writer:
            for piece in stream_backup(store, actor):
                writer.write(piece)
            writer.flush()
            os.fsync(writer.fileno())
        manifest = check(part)
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)
    return manifest


def restore_backup(
    store: Store, actor: str, file: Path, *, replace: bool
) -> tuple[BackupManifest, int]:
    """Replace the contents of the database with a backup; all of it, or nothing.

    `store`: the task store; none of the scheduler's processes may run. `replace`: destroy what the
    database holds.

    Returns what the backup holds, and how many of its tasks go on.

    Raises:
        BadBackup: the file is not a backup, is damaged, or has an unknown schema.
        Conflict: other processes use the database, or it is not empty.
    """
    manifest = check(file)
    store.engine.dispose()  # So that this process' own connections do not count.
    if dump.others_use_it(store.engine):
        raise Conflict(
            "Other processes are connected to the database. Stop api, worker and recorder "
            "(or `simherd up`) first, and start them again afterwards."
        )
    now = time.time()
    try:
        with store.engine.begin() as connection, zipfile.ZipFile(file) as archive:
            if not replace and not dump.is_empty(connection):
                raise Conflict(
                    "The database is not empty, and a restore destroys what is in it. Back it up, "
                    "then say --replace."
                )
            dump.load(connection, archive, manifest)
            with Session(connection, join_transaction_mode="rollback_only") as session:
                going_on = post_restore_fence(session, now)
                add_audit_entry(session, actor, "restore", "database", made=manifest.created_at)
                session.flush()
    except DBAPIError as error:
        raise BadBackup(f"The database does not take what {file} holds: {error.orig}") from error
    return manifest, going_on
