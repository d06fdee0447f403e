"""`simherd tasks`."""

from __future__ import annotations

import sys
from typing import Any

import click

from simherd import config
from simherd.cli import complete, live
from simherd.cli.parts import Spread, Verbs, confirm, exactly_one, yes_option
from simherd.cli.render import Columns, as_json, echo, listing, moment, status_cell, table
from simherd.cli.watch import shows
from simherd.contract.lifecycle import TABLE, Status
from simherd.errors import InvalidInput
from simherd.tasks import Task, get, get_all, require
from simherd.tasks import wait as wait_for_all
from simherd.utils import format_bytes, format_money, format_seconds


@click.group(cls=Verbs)
def command() -> None:
    """List, wait for, kill and download tasks."""


_task_id = click.argument("task_id", shell_complete=complete.task_ids)
_task_ids = click.argument(
    "task_ids",
    nargs=-1,
    required=True,
    metavar="TASK_ID...",
    shell_complete=complete.task_ids,
)


@command.command("list", cls=Spread, spread=["--id"])
@click.option("-n", "--last-n", default=10, show_default=True, type=click.IntRange(1))
@click.option("-a", "--all", "all_", is_flag=True, help="All tasks.")
@click.option("-i", "--id", "ids", multiple=True, metavar="TASK_ID...", help="Only these tasks.")
@click.option("-s", "--status", type=click.Choice([s.value for s in Status]))
@click.option(
    "-p",
    "--project-name",
    "--project",
    "project",
    shell_complete=complete.projects,
    help="Only tasks of this project.",
)
@shows
def list_(
    last_n: int,
    all_: bool,
    ids: tuple[str, ...],
    status: str | None,
    project: str | None,
    json_: bool,
) -> None:
    """List the last tasks, newest first."""
    if ids and (all_ or status or project):
        raise InvalidInput("id: --id says which tasks; leave out --all, --status and --project.")
    if ids:
        found = [require(i) for i in ids]
    else:
        found = get_all(status, project) if all_ else get(last_n, status, project)
    if json_:
        as_json([dict(t.info) for t in found])
        return
    headers = ["ID", "SIMULATOR", "STATUS", "SUBMITTED", "STARTED", "COMPUTATION TIME", "MACHINE"]
    table(headers, [_row(t) for t in found], "There are no tasks.")


def _row(task: Task) -> list[Any]:
    info = task.info
    return [
        task.id,
        info["simulator"],
        status_cell(info.status),
        moment(info["create_time"]),
        moment(info["start_time"]),
        format_seconds(task.get_computation_time(cached=True)),
        info.machine_type,
    ]


@command.command()
@_task_id
@shows
def info(task_id: str, json_: bool) -> None:
    """Show everything about a task."""
    task = require(task_id)
    if json_:
        as_json(dict(task.info))
        return
    echo(task.info, lines=True)
    echo("History:")
    for row in task.info["status_history"]:
        echo(f"  {moment(row['timestamp'])}  {row['alias']}: {row['description']}")
        for operation in row["operations"]:
            what = operation["attributes"].get("command") or operation["alias"]
            echo(f"    {moment(operation['start_timestamp'])}  {what}")
    if (task.info.get("attempt") or 0) > 1:
        echo("Attempts:")
        headers = ["  #", "MACHINE", "STARTED", "ENDED", "ENDED BY", "SAVED", "COST"]
        table(headers, [_attempt(a) for a in task.get_attempts()], "  None was taken up yet.")


def _attempt(attempt: dict[str, Any]) -> list[Any]:
    saved = attempt["saved"]
    kept = [f"outputs, {format_bytes(saved['output_bytes'])}"] if "output_bytes" in saved else []
    kept += [f"checkpoint {saved['generation']}"] if "generation" in saved else []
    return [
        f"  {attempt['attempt']}",
        attempt["machine_name"] or attempt["machine_id"],
        moment(attempt["started_at"]),
        moment(attempt["ended_at"]),
        attempt["cause"],
        ", ".join(kept) or "nothing",
        format_money(attempt["cost"]),
    ]


@command.command()
@_task_id
@shows
def explain(task_id: str, json_: bool) -> None:
    """Show why a task waits."""
    found = require(task_id).explain()
    if json_:
        as_json(found)
    else:
        echo(found["sentence"])


@command.command()
@_task_ids
@click.option("-q", "--quiet", is_flag=True, help="Show neither status nor log lines.")
def wait(task_ids: tuple[str, ...], quiet: bool) -> None:
    """Wait until tasks have ended; the exit code is 1 unless all of them succeeded.

    A single task's log lines are shown meanwhile.
    """
    tasks = [require(t) for t in task_ids]
    if len(tasks) == 1 and not quiet:
        tasks[0].wait(download_std_on_completion=False)
    ends = wait_for_all(tasks, silent_mode=True)
    for task, end in zip(tasks, ends, strict=True):
        echo(f"{task.id}  {TABLE[end].label}")
    sys.exit(any(end != Status.SUCCESS for end in ends))


@command.command()
@click.argument("task_ids", nargs=-1, metavar="[TASK_ID...]", shell_complete=complete.task_ids)
@click.option("--all", "all_", is_flag=True, help="All tasks that have not ended.")
@click.option("-w", "--wait-timeout", type=click.FloatRange(0), help="Seconds to wait for it.")
@click.option("--discard", is_flag=True, help="Do not keep their outputs.")
@yes_option
def kill(
    task_ids: tuple[str, ...], all_: bool, wait_timeout: float | None, discard: bool, yes: bool
) -> None:
    """Kill tasks; the exit code is 1 unless all of them are."""
    tasks = _to_be_killed(task_ids, all_)
    if not tasks:
        echo("There are no tasks to kill.")
        return
    lines = [f"  {task.id}  {TABLE[task.info.status].label}" for task in tasks]
    confirm("\n".join(["You are about to kill these tasks:", *lines, "Kill them?"]), yes)
    sys.exit(not all([_kill(task, wait_timeout, discard) for task in tasks]))


def _to_be_killed(task_ids: tuple[str, ...], all_: bool) -> list[Task]:
    exactly_one("Name the tasks to kill, or use --all.", task_ids, all_)
    if not all_:
        return [require(t) for t in dict.fromkeys(task_ids)]
    return [task for status in Status if TABLE[status].killable for task in get_all(status.value)]


def _kill(task: Task, wait_timeout: float | None, discard: bool) -> bool:
    if task.info.is_terminal:
        echo(f"Task {task.id} has ended already.", err=True)
        return False
    killed = task.kill(wait_timeout, verbosity_level=1, discard_outputs=discard)
    if wait_timeout is None:
        echo(f"Asked for task {task.id} to be killed.")
    return killed is not False


@command.command()
@_task_id
@shows
def usage(task_id: str, json_: bool) -> None:
    """Show what a task used over time."""
    columns: Columns = {
        "AT": lambda u: moment(u["timestamp"]),
        "CPU TIME": lambda u: format_seconds(u["cpu_seconds"]),
        "MEMORY": lambda u: format_bytes(u["memory_bytes"]),
        "PROCESSES": "processes",
        "READ": lambda u: format_bytes(u["read_bytes"]),
        "WRITTEN": lambda u: format_bytes(u["written_bytes"]),
        "DISK": lambda u: format_bytes(u["disk_bytes"]),
    }
    listing(require(task_id).get_usage(), columns, "The task has not computed yet.", json_)


@command.command()
@_task_id
@click.argument("duration")
def extend(task_id: str, duration: str) -> None:
    """Extend a task's time-to-live by DURATION, such as 2h, also while it runs."""
    task = require(task_id)
    task.extend(duration)
    deadline = moment(task.info["deadline"])
    if deadline:
        echo(f"The deadline of task {task.id} is {deadline}.")
    else:
        echo(f"Task {task.id} may run for {task.info['time_to_live_seconds']:.0f} s.")


@command.command(cls=Spread, spread=["--filenames"])
@_task_ids
@click.option(
    "-f",
    "--filenames",
    multiple=True,
    metavar="NAME...",
    help="Only these files; --filenames takes all names that follow it.",
)
@click.option("-d", "--dir", "folder", help="Folder to download to.")
@click.option("-i", "--input", "inputs", is_flag=True, help="The inputs, not the outputs.")
@click.option("-o", "--output", "outputs", is_flag=True, help="The outputs, with -i beside them.")
def download(
    task_ids: tuple[str, ...],
    filenames: tuple[str, ...],
    folder: str | None,
    inputs: bool,
    outputs: bool,
) -> None:
    """Download the outputs of tasks, or their inputs."""
    if folder:
        config.set_output_dir(folder)
    missing = False
    for task in [require(t) for t in task_ids]:
        wanted = list(filenames) or None
        places = [task.download_inputs(wanted)] if inputs else []
        places += [task.download_outputs(wanted)] if outputs or not inputs else []
        for place in places:
            echo(f"{task.id}  {place or 'has no such files'}", err=not place)
        missing = missing or None in places
    sys.exit(missing)


for verb in live.VERBS:
    command.add_command(verb)
