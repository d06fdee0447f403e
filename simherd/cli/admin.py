"""`simherd admin`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from simherd.cli import (
    admin_groups,
    admin_keys,
    admin_prices,
    admin_quotas,
    admin_restore,
    admin_users,
)
from simherd.cli.render import Columns, echo, json_option, listing, moment
from simherd.cli.watch import shows
from simherd.contract.backups import BadBackup, check
from simherd.errors import SimherdError
from simherd.http import api


@click.group()
def command() -> None:
    """For operators: look after a server."""


command.add_command(admin_users.command, "users")
command.add_command(admin_keys.command, "keys")
command.add_command(admin_quotas.command, "quotas")
command.add_command(admin_prices.command, "prices")
command.add_command(admin_groups.command, "groups")
command.add_command(admin_restore.command, "restore")


@command.command()
@click.option("-n", "--last", default=100, show_default=True, type=click.IntRange(1, 1000))
@click.option("--by", "actor", help="Only what this operator did.")
@click.option("--to", "subject", help="Only what was done to this user, group or machine type.")
@click.option("--before", type=int, help="Only entries older than the one with this number.")
@shows
def audit(
    last: int, actor: str | None, subject: str | None, before: int | None, json_: bool
) -> None:
    """Show what operators have done, the newest first."""
    found = api().get("/v1/admin/audit", limit=last, actor=actor, subject=subject, before=before)
    columns: Columns = {
        "NUMBER": "id",
        "WHEN": lambda e: moment(e["at"]),
        "WHO": "actor",
        "WHAT": "action",
        "TO": "subject",
        "FACTS": lambda e: _facts(e["facts"]),
    }
    listing(found, columns, "Nothing was done yet.", json_)


def _facts(facts: dict[str, Any]) -> str:
    said = {name: value for name, value in facts.items() if value is not None}
    return " ".join(f"{name}={json.dumps(value)}" for name, value in said.items())


@command.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(file: Path) -> None:
    """Write all of the server's database to FILE; `simherd admin restore` puts it back.

    It has no outputs: these are in the storage. It holds webhook secrets, and hashes of keys.
    """
    if file.exists():
        raise click.UsageError(f"{file} is there already. Choose another name, or remove it.")
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    try:
        with (
            os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as writer,
            api().download("/v1/admin/backup") as pieces,
        ):
            writer.writelines(pieces)
        manifest = check(part)
        part.rename(file)
    except BadBackup as error:
        raise SimherdError(str(error)) from error
    finally:
        part.unlink(missing_ok=True)
    echo(f"{file}: {manifest.rows} rows, schema {manifest.revision}. Only you can read it.")


@command.command()
@click.option("--fix", is_flag=True, help="Repair what can be repaired.")
@click.option("--storage", is_flag=True, help="Look for the outputs of every task, too.")
@json_option
def doctor(fix: bool, storage: bool, json_: bool) -> None:
    """Find machines, leases, Redis users and uploads that are not needed any more.

    The exit code is 1 while a finding is left to repair.
    """
    found = api().post("/v1/admin/doctor", {"fix": fix, "storage": storage})
    columns: Columns = {
        "FINDING": "kind",
        "WHAT": "sentence",
        "": lambda f: "mended" if f["mended"] else "",
    }
    listing(found, columns, "All is well.", json_)
    sys.exit(any(not f["mended"] for f in found))
