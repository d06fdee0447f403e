"""`simherd quotas`."""

from __future__ import annotations

from typing import Any

import click

from simherd import users
from simherd.cli.parts import Verbs
from simherd.cli.render import as_json, table
from simherd.cli.watch import shows


@click.group(cls=Verbs, invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Show your quotas; without a verb, `list`."""
    if context.invoked_subcommand is None:
        context.invoke(list_)


@command.command("list")
@shows
def list_(json_: bool) -> None:
    """List your quotas with what is in use."""
    print_quotas(users.get_quotas(), json_)


def print_quotas(quotas: dict[str, dict[str, Any]], json_: bool = False) -> None:
    """Print quotas as a table, or as JSON."""
    if json_:
        as_json(quotas)
        return
    rows = [
        [name, q["label"], _number(q["in_use"], "-"), _number(q["max_allowed"], "no"), q["unit"]]
        for name, q in quotas.items()
    ]
    table(["QUOTA", "OF WHAT", "IN USE", "LIMIT", "UNIT"], rows, "There are no quotas.")


def _number(value: float | None, without: str) -> str:
    return without if value is None else f"{value:g}"
