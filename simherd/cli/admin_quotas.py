"""`simherd admin quotas`."""

from __future__ import annotations

from urllib.parse import quote

import click

from simherd.cli.admin_users import user_path
from simherd.cli.parts import Verbs, exactly_one
from simherd.cli.quotas import print_quotas
from simherd.cli.render import echo
from simherd.cli.watch import shows
from simherd.http import api

_username = click.argument("username")


@click.group(cls=Verbs)
def command() -> None:
    """Show and set the quotas of users."""


@command.command()
@_username
@shows
def show(username: str, json_: bool) -> None:
    """Show the quotas of USERNAME with what is in use."""
    print_quotas(api().get(f"{user_path(username)}/quotas"), json_)


@command.command("set")
@_username
@click.argument("name")
@click.argument("value", type=float)
def set_(username: str, name: str, value: float) -> None:
    """Set the quota NAME of USERNAME to VALUE. What is in use stays, even if it is more."""
    api().put(_path(username, name), {"value": value})
    echo(f"{username} may have {value:g} of {name}.")


@command.command()
@_username
@click.argument("name")
def unset(username: str, name: str) -> None:
    """Remove the quota NAME of USERNAME."""
    api().put(_path(username, name), {"value": None})
    echo(f"{username} has no limit of {name}.")


@command.command()
@click.argument("username", required=False)
@click.option("--all-users", is_flag=True, help="Every user of the server.")
def defaults(username: str | None, all_users: bool) -> None:
    """Give USERNAME the server's default quotas. Quotas that were set stay as they are."""
    exactly_one("Name a user, or use --all-users.", username is not None, all_users)
    changed = api().post("/v1/admin/quotas/defaults", {"username": username})
    for name, quotas in changed.items():
        echo(f"{name}: {', '.join(quotas)}.")
    if not changed:
        echo("Every default quota is set already.")


def _path(username: str, name: str) -> str:
    return f"{user_path(username)}/quotas/{quote(name, safe='')}"
