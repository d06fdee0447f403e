"""`simherd logs`."""

from __future__ import annotations

import sys
import time

import click

from simherd.contract.lifecycle import TERMINAL, Status
from simherd.http import api
from simherd.tasks import require
from simherd.watch import LogReader

#: Seconds the server may hold a request for log lines.
_WAIT_S = 4.0


@click.command()
@click.argument("task_id")
@click.option("--stdout", "only", flag_value="stdout", help="Only what goes to standard output.")
@click.option("--stderr", "only", flag_value="stderr", help="Only what goes to standard error.")
def command(task_id: str, only: str | None) -> None:
    """Show what a task writes, from the beginning until it ends."""
    task = require(task_id)
    reader = LogReader(api(), task.id, (only,) if only else ("stdout", "stderr"))
    while True:
        status = task.get_status()
        waits = status in {Status.PENDING_INPUT, Status.SUBMITTED}
        for stream, text in [] if waits else reader.read(0 if status in TERMINAL else _WAIT_S):
            click.echo(text, nl=False, err=stream == "stderr")
            sys.stdout.flush()
        if status in TERMINAL:
            return
        if waits:
            time.sleep(1)
