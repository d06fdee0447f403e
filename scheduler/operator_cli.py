"""What an operator does with `simherd-scheduler` besides starting its processes.

Each needs the database alone: it works before there is an operator's key, and while nothing runs.
"""

from __future__ import annotations

import getpass
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import OperationalError

from scheduler.services.accounts.admin_keys import make_key
from scheduler.services.accounts.admin_users import create_user
from scheduler.services.backup.backup import restore_backup, write_backup
from scheduler.services.errors import ServiceError
from scheduler.store import schema
from scheduler.store.engine import Store, migrate, open_engine
from simherd.contract.backups import BadBackup

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from scheduler.config import StoreSettings


def add_to(names: Any) -> None:
    """Let the command line know the commands."""
    moved = names.add_parser("migrate", help="bring the database to another schema")
    moved.add_argument("--to", default=schema.HEAD, help="head, base, a revision, or -1: one back")
    moved.add_argument("--check", action="store_true", help="change nothing; exit 1 if it would")
    moved.set_defaults(command=_migrate)
    saved = names.add_parser("backup", help="write all of the database to a file")
    saved.add_argument("file", type=Path)
    saved.set_defaults(command=_backup)
    restored = names.add_parser("restore", help="put a backup in place of the database")
    restored.add_argument("file", type=Path)
    restored.add_argument("--replace", action="store_true", help="destroy what is there")
    restored.set_defaults(command=_restore)
    operator = names.add_parser("operator", help="make a user who may look after the server")
    operator.add_argument("verb", choices=["create"])
    operator.add_argument("username")
    operator.add_argument("--email", help="where they can be reached; USERNAME@localhost")
    operator.set_defaults(command=_operator)


def run(given: argparse.Namespace, settings: StoreSettings) -> None:
    """Carry out what was asked for, or end with what is wrong."""
    command: Callable[[argparse.Namespace, str], None] = given.command
    given.quotas = settings.quotas_of_new_users
    try:
        command(given, settings.database_url.get_secret_value())
    except (ServiceError, schema.SchemaError, BadBackup, OSError) as error:
        sys.exit(f"simherd-scheduler: {error}")
    except OperationalError as error:
        sys.exit(f"simherd-scheduler: SIMHERD_DATABASE_URL: the database says: {error.orig}")


def _actor() -> str:
    """Return the actor for the audit log."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        name = str(os.getuid())
    return f"simherd-scheduler ({name})"


def _migrate(given: argparse.Namespace, url: str) -> None:
    if given.check:
        engine = open_engine(url)
        with engine.connect() as connection:
            schema.check(connection)
        print("The database has a schema that this Simherd works with.")
        return
    migrate(url, given.to)


def _backup(given: argparse.Namespace, url: str) -> None:
    manifest = write_backup(Store(open_engine(url)), _actor(), given.file)
    print(f"{given.file}: {manifest.rows} rows, schema {manifest.revision}.")
    print("It holds webhook secrets and hashes of keys: keep it where only you can read it.")


def _restore(given: argparse.Namespace, url: str) -> None:
    store = Store(open_engine(url))
    manifest, going_on = restore_backup(store, _actor(), given.file, replace=given.replace)
    made = datetime.fromtimestamp(manifest.created_at, UTC).isoformat(" ", "seconds")
    print(f"The database is as it was at {made}: {manifest.rows} rows.")
    print(f"{going_on} tasks go on once api, recorder and worker are started. What does not match")
    print("is listed by `simherd admin doctor --storage`. What was ended is back: keys, groups.")


def _operator(given: argparse.Namespace, url: str) -> None:
    email = given.email or f"{given.username}@localhost"
    with Store(open_engine(url)).write() as session:
        create_user(session, _actor(), given.username, email, operator=True, quotas=given.quotas)
        secret, _ = make_key(session, _actor(), given.username, "first key")
    print("This key is shown once; `simherd auth login` stores it:", file=sys.stderr)
    print(secret)
