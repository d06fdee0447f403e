"""`simherd admin groups`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from simherd.cli.parts import Spread, Verbs, confirm, exactly_one, yes_option
from simherd.cli.render import Columns, as_json, echo, listing, moment
from simherd.cli.resources import print_machines, print_quarantine, shown_status
from simherd.cli.watch import shows
from simherd.errors import SimherdError
from simherd.http import api
from simherd.utils import format_money

_GROUPS = "/v1/admin/groups"
_group = click.argument("group", metavar="GROUP")


@click.group(cls=Verbs)
def command() -> None:
    """List, show, share, terminate, drain and repair the machine groups of all users."""


_COLUMNS: Columns = {
    "NAME": "name",
    "USER": "username",
    "STATUS": shown_status,
    "MACHINE TYPE": "machine_type",
    "FROM": "provider",
    "MACHINES": "machines",
    "TASKS": "tasks",
    "COST": lambda g: format_money(g["cost"]),
    "SHARED": lambda g: _shared(g),
    "ID": "id",
}


@command.command("list")
@click.option("--ended", is_flag=True, help="The terminated ones, too.")
@shows
def list_(ended: bool, json_: bool) -> None:
    """List the machine groups of all users with what they have cost."""
    listing(api().get(_GROUPS, ended=ended), _COLUMNS, "There are no machine groups.", json_)


def _shared(group: dict[str, Any]) -> str:
    """How a list shows the users who may send tasks to a group: none, some by name, all."""
    # A server before 0.2 does not say with how many.
    marks = "all" if group["shared"] else "some" if group.get("shared_with") else ""
    if not group["is_default"]:
        return marks
    return f"{marks}, default" if marks else "default"


@command.command()
@_group
@shows
def show(group: str, json_: bool) -> None:
    """Show GROUP (its id, or its name where only one has it) and its machines."""
    found = api().get(_path(group))
    if json_:
        as_json(found)
        return
    echo(f"{found['name']} of {found['username']}: {found['status']} ({found['id']})")
    if found["status_detail"]:
        echo(found["status_detail"])
    print_quarantine(found)
    echo(f"Since {moment(found['creation_timestamp'])}, {found['tasks']} task(s) going on.")
    echo(f"Cost so far: {format_money(found['cost'])}")
    default = ", the default" if found["is_default"] else ""
    echo(f"Shared with {_shared_with(found)}{default}.")
    print_machines(found["group"]["machines"])


@command.command()
@_group
@yes_option
def terminate(group: str, yes: bool) -> None:
    """Terminate GROUP, and end its tasks."""
    found = api().get(_path(group))
    what = f"{found['name']} of {found['username']}"
    confirm(f"Terminate {what} and end its {found['tasks']} task(s)?", yes)
    done = api().post(f"{_path(found['id'])}/terminate")
    echo(f"Machine group {what}: {done['status']}.")


@command.command("remove-machine")
@_group
@click.argument("machine", metavar="MACHINE")
@yes_option
def remove_machine(group: str, machine: str, yes: bool) -> None:
    """Revoke the credentials of MACHINE (its id or name) in GROUP, and terminate it.

    For a machine that is not trusted any more. The tasks that it has are lost there; those that are
    to be resubmitted run again elsewhere.
    """
    if not yes:
        found = api().get(_path(group))
        what = f"{found['name']} of {found['username']}"
        if not any(machine in {m["id"], m["host_name"]} for m in found["group"]["machines"]):
            raise SimherdError(f"machine: there is no machine {machine!r} in {what}.")
        confirm(f"Terminate machine {machine} of {what}, and lose what it runs?", yes)
    done = api().delete(f"{_path(group)}/machines/{quote(machine, safe='')}")
    echo(f"Machine {done['name']} is let in no more.")


@command.command()
@_group
def repair(group: str) -> None:
    """Rebuild the keys of a quarantined GROUP.

    Waiting tasks are queued again; its machines keep their tasks once they report.
    """
    done = api().post(f"{_path(group)}/repair")
    echo(f"Machine group {done['name']} of {done['username']} is repaired.")


@command.command()
@_group
def drain(group: str) -> None:
    """Let the machines of GROUP finish their tasks, and replace them by new ones."""
    done = api().post(f"{_path(group)}/drain")
    echo(f"Machines that take nothing more, and are replaced: {done['drained']}.")


_owner = click.option("--owner", metavar="USERNAME", help="Whose, where several have that name.")
_usernames = click.option("--with", "usernames", multiple=True, metavar="USERNAME...")


@command.command(cls=Spread, spread=["--with"])
@_group
@_owner
@_usernames
@click.option("--everyone", is_flag=True, help="Every user may send tasks to it.")
@yes_option
def share(
    group: str, owner: str | None, usernames: tuple[str, ...], everyone: bool, yes: bool
) -> None:
    """Let users send tasks to GROUP, or everyone; they see it at once.

    Its owner can read what is sent there: it asks where that is not an operator.
    """
    exactly_one("Name users with --with, or say --everyone.", usernames, everyone)
    if not yes:
        found = api().get(_path(group), owner=owner)
        if not found.get("is_owner_operator", True):
            confirm(
                f"{found['name']} belongs to {found['username']}, who is not an operator. Its "
                "owner can read the inputs and outputs of all tasks that are sent there. Share it?",
                yes,
            )
    body = {"usernames": list(usernames), "everyone": everyone}
    done = api().post(f"{_path(group)}/share", body, repeatable=True, owner=owner)
    echo(f"Machine group {done['name']} is shared with {_shared_with(done)}.")


@command.command(cls=Spread, spread=["--with"])
@_group
@_owner
@_usernames
def unshare(group: str, owner: str | None, usernames: tuple[str, ...]) -> None:
    """Let users send no more tasks to GROUP, or nobody but its owner.

    What they have submitted goes on.
    """
    body = {"usernames": list(usernames)}
    done = api().post(f"{_path(group)}/unshare", body, repeatable=True, owner=owner)
    echo(f"Machine group {done['name']} is shared with {_shared_with(done)}.")
    if done["is_default"] and _shared_with(done) == "nobody":
        echo(
            "It is still the default, and nobody but its owner may use it: share it again, or "
            f"`simherd admin groups default {done['name']} --off`."
        )


@command.command()
@_group
@_owner
@click.option("--off", is_flag=True, help="It is the default no longer.")
def default(group: str, owner: str | None, off: bool) -> None:
    """Have tasks that name no group go to GROUP, an operator's, where their users may use it."""
    done = api().put(f"{_path(group)}/default", {"is_default": not off}, owner=owner)
    if off:
        echo(f"Machine group {done['name']} is the default no longer.")
        return
    echo(f"Machine group {done['name']} is the default, shared with {_shared_with(done)}.")
    if _shared_with(done) == "nobody":
        echo(
            "Nobody but its owner may use it yet: "
            f"`simherd admin groups share {done['name']} --everyone`."
        )


def _shared_with(group: dict[str, Any]) -> str:
    if group["shared"]:
        return "everyone"
    names = [s["username"] for s in group["shares"] if s["accepted_at"] is not None]
    return ", ".join(names) or "nobody"


def _path(group: str) -> str:
    return f"{_GROUPS}/{quote(group, safe='')}"
