"""`simherd user`."""

from __future__ import annotations

from datetime import datetime

import click

from simherd import users
from simherd.cli.parts import Verbs
from simherd.cli.quotas import print_quotas
from simherd.cli.render import as_json, echo, moment
from simherd.cli.watch import shows
from simherd.utils import format_money


@click.group(cls=Verbs)
def command() -> None:
    """Show your account."""


@command.command()
@shows
def info(json_: bool) -> None:
    """Show who you are, what this month cost, and your quotas."""
    user, quotas = users.get_info(), users.get_quotas()
    now = datetime.now().astimezone()
    costs = users.get_costs(now.year, now.month)
    if json_:
        as_json({**user, "costs": costs, "quotas": quotas})
        return
    echo(f"User:       {user['username']} ({user['email']})")
    echo(f"Since:      {moment(user['registration_ts'])}")
    echo(f"This month: {format_money(costs[-1]['total'])}")
    print_quotas(quotas)
