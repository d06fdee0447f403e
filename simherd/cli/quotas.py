"""`simherd quotas`."""

from __future__ import annotations

import click

from simherd import users
from simherd.cli.render import as_json, json_option, table


@click.group()
def command() -> None:
    """Show what you may have at one time."""


@command.command("list")
@json_option
def list_(json_: bool) -> None:
    """List your quotas with what is in use."""
    found = users.get_quotas()
    if json_:
        as_json(found)
        return
    rows = [
        [name, q["label"], _number(q["in_use"], "-"), _number(q["max_allowed"], "no"), q["unit"]]
        for name, q in found.items()
    ]
    table(["QUOTA", "OF WHAT", "IN USE", "LIMIT", "UNIT"], rows, "There are no quotas.")


def _number(value: float | None, without: str) -> str:
    return without if value is None else f"{value:g}"
