"""`simherd costs`."""

from __future__ import annotations

import click

from simherd import users
from simherd.cli.render import as_json, echo, table
from simherd.cli.watch import shows
from simherd.utils import format_money


@click.command()
@click.option("-m", "--month", help="Such as 2026-07; by default this one.")
@shows
def command(month: str | None, json_: bool) -> None:
    """Show what a month cost, by machine group and by project."""
    found = users.get_cost_shares(month)
    if json_:
        as_json(found)
        return
    echo(f"{found['month']}: {format_money(found['total'])}")
    groups = [
        [g["name"], f"{g['machine_hours']:.2f}", format_money(g["cost"])] for g in found["groups"]
    ]
    table(["MACHINE GROUP", "MACHINE HOURS", "COST"], groups, "No machines were there.")
    projects = [[p["name"], format_money(p["cost"])] for p in found["projects"]]
    table(["PROJECT", "COST OF ITS TASKS"], projects, "No tasks ran.")
