"""What `simherd up` shows while it runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from simherd.cli.render import echo
from simherd.config import Connection
from simherd.contract.lifecycle import RUNNING, TERMINAL, Status
from simherd.contract.limits import DEFAULT_GROUP
from simherd.errors import SimherdError
from simherd.http import Api
from simherd.visible import visible_line

if TYPE_CHECKING:
    import threading

    from simherd.local.stack import Stack

#: Seconds between two looks at the parts, and at the tasks.
_LOOK_S, _COUNT_S = 0.5, 2.0
#: To the start of the line, and clear it.
_CLEAR_LINE = "\r\x1b[K"


def announce(stack: Stack) -> None:
    """Say where everything is."""
    options = stack.options
    how = options.backend
    if how == "process":
        how += " (insecure: simulations are not isolated; they run as this user and read its files)"
    echo(f"Simherd is ready at {stack.url}")
    echo(
        f"  machine group  {DEFAULT_GROUP}: {options.machines} machine(s) "
        f"with {options.slots} slot(s)"
    )
    echo(f"  backend        {how}")
    echo(f"  data           {options.data_dir}")
    echo(f"  URL and key    {options.data_dir / 'connection.env'}")
    if stack.has_new_key:
        echo(
            f"The key in {options.data_dir / 'run' / 'api_key'} was revoked or has expired: a new "
            "one was made and stored there. The old one stays refused."
        )
    echo("Ctrl-C stops everything.")


def watch(stack: Stack, stop: threading.Event) -> None:
    """Keep the parts running until `stop` is set; on a terminal, with one line of how it goes."""
    api = Api(Connection(stack.url, stack.key), patience_s=0)
    shows = sys.stdout.isatty()
    since_count = _COUNT_S
    while not stop.wait(_LOOK_S):
        for name in stack.restart_dead():
            _clear(shows)
            echo(f"  {name} died and was started again, see {stack.log_of(name)}")
        since_count += _LOOK_S
        if shows and since_count >= _COUNT_S:
            since_count = 0.0
            click.echo(f"{_CLEAR_LINE}  {visible_line(_state(api))}", nl=False)
    _clear(shows)


def _clear(shows: bool) -> None:
    if shows:
        click.echo(_CLEAR_LINE, nl=False)


def _state(api: Api) -> str:
    try:
        groups: list[dict[str, Any]] = api.get("/compute/groups")
        projects: list[dict[str, Any]] = api.get("/projects")
    except SimherdError as error:
        return str(error)
    counts: dict[Status, int] = {}
    for project in projects:
        for status, count in project["task_status_overview"].items():
            counts[Status(status)] = counts.get(Status(status), 0) + count
    machines = sum(m["status"] == "started" for g in groups for m in g["machines"])
    running = sum(counts.get(s, 0) for s in RUNNING)
    ended = sum(counts.get(s, 0) for s in TERMINAL)
    good = counts.get(Status.SUCCESS, 0)
    return (
        f"{len(groups)} group(s), {machines} machine(s) · tasks: "
        f"{counts.get(Status.SUBMITTED, 0)} in queue, {running} running, "
        f"{ended} ended ({good} with success)"
    )
