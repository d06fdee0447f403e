"""`simherd resources share` and what belongs to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from simherd import sharing
from simherd.cli import complete
from simherd.cli.render import Columns, echo, listing, moment
from simherd.cli.watch import shows

if TYPE_CHECKING:
    from collections.abc import Sequence


_name = click.argument("name", shell_complete=complete.groups)
_username = click.argument("username")
_offered = click.argument("name")
_from = click.option("--from", "owner", metavar="USERNAME", help="Whose group it is.")


def add_to(group: click.Group) -> None:
    """Give `simherd resources` these commands."""
    for command in (share, unshare, shares, offers, accept, decline):
        group.add_command(command)


@click.command()
@_name
@_username
def share(name: str, username: str) -> None:
    """Offer your machine group NAME to USERNAME, who may send tasks to it once they accept."""
    sharing.share(name, username)
    echo(f"Machine group {name} is offered to {username}: `simherd resources accept {name}`.")


@click.command()
@_name
@_username
def unshare(name: str, username: str) -> None:
    """Let USERNAME send no more tasks to NAME; what they have submitted goes on."""
    sharing.unshare(name, username)
    echo(f"Machine group {name} is not shared with {username} any more.")


@click.command()
@_name
@shows
def shares(name: str, json_: bool) -> None:
    """List the users that your machine group NAME is shared with."""
    _print(sharing.shares(name), json_, "USER", "username", "It is shared with nobody by name.")


@click.command()
@shows
def offers(json_: bool) -> None:
    """List the machine groups that others share with you, accepted or not."""
    _print(sharing.offers(), json_, "OWNER", "owner", "Nobody offers you a machine group.")


@click.command()
@_offered
@_from
def accept(name: str, owner: str | None) -> None:
    """Use the machine group NAME that is offered to you. Its owner can read what you send there."""
    sharing.accept(name, owner)
    echo(f"You may send tasks to {name}: `simherd run --on {name}`. Its owner can read them.")


@click.command()
@_offered
@_from
def decline(name: str, owner: str | None) -> None:
    """Refuse the machine group NAME that is offered to you, or stop using it."""
    sharing.decline(name, owner)
    echo(f"Machine group {name} is not shared with you any more.")


def _print(
    rows: Sequence[dict[str, Any]], json_: bool, heading: str, field: str, nothing: str
) -> None:
    columns: Columns = {
        "GROUP": "group",
        heading: field,
        "OFFERED": lambda r: moment(r["offered_at"]),
        "ACCEPTED": lambda r: moment(r["accepted_at"]) or "not yet",
    }
    listing(rows, columns, nothing, json_)
