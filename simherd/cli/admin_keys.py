"""`simherd admin keys`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from simherd.cli.admin_users import print_keys
from simherd.cli.parts import Verbs, confirm, yes_option
from simherd.cli.render import as_json, echo, json_option, moment
from simherd.cli.watch import shows
from simherd.errors import SimherdError
from simherd.http import api
from simherd.utils import parse_duration

_KEYS = "/v1/admin/keys"
_key = click.argument("key", metavar="KEY")


@click.group(cls=Verbs)
def command() -> None:
    """List, create, revoke and rotate API keys."""


@command.command("list")
@click.argument("username", required=False)
@shows
def list_(username: str | None, json_: bool) -> None:
    """List all keys, or those of USERNAME, by their ids."""
    print_keys(api().get(_KEYS, username=username), json_)


@command.command()
@click.argument("username")
@click.option("--label", default="key", show_default=True, help="What it is for.")
@click.option("--for", "valid", help="For how long it is good, such as 90d; default: for ever.")
@json_option
def create(username: str, label: str, valid: str | None, json_: bool) -> None:
    """Make a key for USERNAME, and show it once."""
    valid_s = None if valid is None else parse_duration(valid, "for")
    body = {"username": username, "label": label, "valid_s": valid_s}
    _show(api().post(_KEYS, body), json_)


@command.command()
@_key
@yes_option
def revoke(key: str, yes: bool) -> None:
    """Revoke KEY, an id of `list`, for good."""
    if not yes:
        confirm(f"Revoke {_named(key)}? Requests with it are refused from now on.", yes)
    api().post(f"{_KEYS}/{quote(key, safe='')}/revoke", repeatable=True)
    echo(f"Key {key} is revoked.")


@command.command()
@_key
@click.option("--keep", help="How long the old one stays good, such as 1d; default: not at all.")
@yes_option
@json_option
def rotate(key: str, keep: str | None, yes: bool, json_: bool) -> None:
    """Make a key in place of KEY, an id of `list`, and show it once."""
    keep_s = 0.0 if keep is None else parse_duration(keep, "keep")
    if keep is None and not yes:
        confirm(f"Replace {_named(key)} at once? Requests with it are refused from now on.", yes)
    _show(api().post(f"{_KEYS}/{quote(key, safe='')}/rotate", {"keep_s": keep_s}), json_)


def _named(key: str) -> str:
    """A key with whose it is and what for. Raises SimherdError where there is none."""
    for known in api().get(_KEYS):
        if key.startswith(known["id"]):
            return f"{known['id']} of {known['username']} ({known['label']})"
    raise SimherdError(f"key: there is no key {key!r}. `simherd admin keys list` shows them.")


def _show(made: dict[str, Any], json_: bool) -> None:
    if json_:
        as_json(made)
        return
    until = f", good until {moment(made['expires_at'])}" if made["expires_at"] else ""
    echo(f"Key {made['id']} of {made['username']} ({made['label']}){until}:", err=True)
    # Alone on standard output, so that it can be piped to where it belongs.
    echo(made["key"])
