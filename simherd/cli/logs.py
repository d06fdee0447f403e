"""`simherd logs`."""

from __future__ import annotations

import sys

import click

from simherd.cli import complete
from simherd.cli.live import raw_option
from simherd.cli.render import echo
from simherd.contract import limits
from simherd.contract.lifecycle import TABLE, Status
from simherd.contract.objects import STDERR, STDOUT
from simherd.follow import STD_FILES, Follow, Output, Printer
from simherd.http import api
from simherd.tasks import require


@click.command()
@click.argument("task_id", shell_complete=complete.task_ids)
@click.option("--stdout", "only", flag_value=STDOUT, help="Only what goes to standard output.")
@click.option("--stderr", "only", flag_value=STDERR, help="Only what goes to standard error.")
@raw_option
def command(task_id: str, only: str | None, raw: bool) -> None:
    """Show what a task writes, from before it starts until it has ended.

    Of what was written before, the last MiB is shown; `simherd tasks fetch` gets a whole file. On a
    terminal control characters are shown escaped; a pipe or file gets them as they were written.
    The exit code is 0 when the task succeeded, and 1 when it did not.
    """
    task = require(task_id)
    out = Printer(Output(sys.stdout, raw=raw), statuses=False)
    err = Printer(Output(sys.stderr, raw=raw), statuses=False)
    files = (only,) if only else STD_FILES
    for news in Follow(api(), task.id, files, limits.LIVE_MAX_LINES):
        if news.kind == "text":
            (err if news.body["file"] == STDERR else out).show(news)
    info = task.get_info()
    for printer in (out, err):
        printer.ended(info.status, info.description)
    if info.status != Status.SUCCESS:
        echo(f"Task {task.id}: {TABLE[info.status].label}. {info.description}", err=True)
        sys.exit(1)
