"""`simherd admin users`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from simherd.cli.parts import Verbs, confirm, exactly_one, yes_option
from simherd.cli.render import Columns, as_json, echo, json_option, listing, moment
from simherd.cli.watch import shows
from simherd.http import api

_USERS = "/v1/admin/users"
_username = click.argument("username")


def user_path(username: str) -> str:
    """Where a user is on the server."""
    return f"{_USERS}/{quote(username, safe='')}"


@click.group(cls=Verbs)
def command() -> None:
    """List, create, disable and enable users."""


_COLUMNS: Columns = {
    "USER": "username",
    "E-MAIL": "email",
    "SINCE": lambda u: moment(u["created_at"]),
    "OPERATOR": lambda u: "yes" if u["operator"] else "",
    "DISABLED": lambda u: moment(u["disabled_at"]) or "",
    "PROVIDERS": lambda u: _providers(u),
    "TASKS": "tasks",
    "GROUPS UP": "groups",
}
_KEY_COLUMNS: Columns = {
    "KEY": "id",
    "USER": "username",
    "LABEL": "label",
    "CREATED": lambda k: moment(k["created_at"]),
    "EXPIRES": lambda k: moment(k["expires_at"]) or "never",
    "GOOD": lambda k: "yes" if k["good"] else "revoked" if k["revoked_at"] else "expired",
}


@command.command("list")
@shows
def list_(json_: bool) -> None:
    """List all users."""
    listing(api().get(_USERS), _COLUMNS, "There are no users.", json_)


def _providers(user: dict[str, Any]) -> str:
    if user["providers"] is None:
        return "all"
    return ", ".join(user["providers"]) or "none"


@command.command()
@_username
@click.option("--email", required=True, help="Where they can be reached.")
@click.option("--operator", is_flag=True, help="They may look after the server.")
@json_option
def create(username: str, email: str, operator: bool, json_: bool) -> None:
    """Create the user USERNAME; `simherd admin keys create` makes their key."""
    made = api().post(_USERS, {"username": username, "email": email, "operator": operator})
    if json_:
        as_json(made)
    else:
        echo(f"User {username} was created. A key: `simherd admin keys create {username}`.")
    # A server of an earlier release does not say.
    if not made.get("simulations_isolated", True):
        echo(
            "This server runs simulations as plain processes: its users can read whatever the "
            "account that it runs as can, the keys of other users included. Give keys only to "
            "people who may, or run it with --backend docker.",
            err=True,
        )


@command.command()
@_username
@shows
def show(username: str, json_: bool) -> None:
    """Show a user with their keys."""
    user = api().get(user_path(username))
    keys = api().get("/v1/admin/keys", username=username)
    if json_:
        as_json({**user, "keys": keys})
        return
    echo(f"{user['username']} ({user['email']}), since {moment(user['created_at'])}")
    if user["operator"]:
        echo("An operator.")
    if user["disabled_at"]:
        echo(f"Disabled since {moment(user['disabled_at'])}.")
    echo(f"Providers of machines: {_providers(user)}, of those that are on.")
    echo(f"Tasks that have not ended: {user['tasks']}; groups that are up: {user['groups']}.")
    print_keys(keys)


def print_keys(keys: list[dict[str, Any]], json_: bool = False) -> None:
    """Print keys as a table, or as JSON."""
    listing(keys, _KEY_COLUMNS, "There are no keys.", json_)


@command.command()
@_username
@click.option("--kill", is_flag=True, help="Kill their tasks that have not ended.")
@yes_option
def disable(username: str, kill: bool, yes: bool) -> None:
    """Refuse the keys of USERNAME from now on. Their running tasks go on."""
    if kill and not yes:
        api().get(user_path(username))  # where it is missing, the server says so beforehand
        confirm(f"Disable {username} and kill their tasks?", yes)
    done = api().post(f"{user_path(username)}/disable", {"kill": kill})
    echo(f"User {username} is disabled.")
    if kill:
        echo(f"Tasks that are being killed: {done['tasks_killed']}.")
    elif done["tasks"]:
        echo(f"Tasks that go on: {done['tasks']}. `--kill` ends them.")
    if done["groups"]:
        echo(f"Groups that are up: {done['groups']}. `simherd admin groups terminate NAME`.")


@command.command()
@_username
def enable(username: str) -> None:
    """Accept the keys of USERNAME again."""
    api().post(f"{user_path(username)}/enable", repeatable=True)
    echo(f"User {username} is enabled.")


@command.command()
@_username
@click.argument("standing", type=click.Choice(["on", "off"]), metavar="on|off")
def operator(username: str, standing: str) -> None:
    """Make USERNAME an operator, or no longer one."""
    api().put(f"{user_path(username)}/operator", {"operator": standing == "on"})
    echo(f"User {username} is {'an' if standing == 'on' else 'no'} operator now.")


@command.command()
@_username
@click.argument("names", nargs=-1, metavar="[PROVIDER...]")
@click.option("--all", "all_", is_flag=True, help="All that are on (SIMHERD_PROVIDERS).")
@click.option("--none", is_flag=True, help="None: they start no machines.")
def providers(username: str, names: tuple[str, ...], all_: bool, none: bool) -> None:
    """Narrow the providers that USERNAME may start machines with: local, docker, ec2, external.

    Machines that they have go on; groups of providers that are left out start no more.
    """
    exactly_one("Name providers, or say --all or --none.", names, all_, none)
    body = {"providers": None if all_ else list(names)}
    user = api().put(f"{user_path(username)}/providers", body)
    echo(f"{username} may start machines with: {_providers(user)}, of those that are on.")
