"""What an operator does with `simherd-scheduler` besides starting its processes.

Each needs the database alone: it works before there is an operator's key, and while nothing runs.
"""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING

from sqlalchemy.exc import OperationalError

from scheduler.services.errors import Refused
from scheduler.store import schema
from scheduler.store.engine import migrate, open_engine

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from scheduler.config import StoreSettings


def add_to(names: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Let the command line know the commands."""
    moved = names.add_parser("migrate", help="bring the database to another schema")
    moved.add_argument("--to", default=schema.HEAD, help="head, base, a revision, or -1: one back")
    moved.add_argument("--check", action="store_true", help="change nothing; exit 1 if it would")
    moved.set_defaults(command=_migrate)


def run(given: argparse.Namespace, settings: StoreSettings) -> None:
    """Carry out what was asked for, or end with what is wrong."""
    command: Callable[[argparse.Namespace, str], None] = given.command
    try:
        command(given, settings.database_url.get_secret_value())
    except (Refused, schema.SchemaError) as error:
        sys.exit(f"simherd-scheduler: {error}")
    except OperationalError as error:
        sys.exit(f"simherd-scheduler: SIMHERD_DATABASE_URL: the database says: {error.orig}")


def actor() -> str:
    """Who does it, as the audit says."""
    return f"simherd-scheduler ({getpass.getuser()})"


def _migrate(given: argparse.Namespace, url: str) -> None:
    if given.check:
        engine = open_engine(url)
        with engine.connect() as connection:
            schema.check(connection)
        print("The database has the schema that this Simherd works with.")
        return
    migrate(url, given.to)
