"""`simherd tasks`."""

from __future__ import annotations

import sys
from typing import Any

import click

from simherd import config
from simherd.cli.render import as_json, json_option, moment, table
from simherd.contract.lifecycle import TABLE, Status
from simherd.tasks import Task, get, get_all, require
from simherd.utils import format_bytes, format_money, format_seconds


@click.group()
def command() -> None:
    """List, wait for, kill and download tasks."""


@command.command("list")
@click.option("-n", "--last-n", default=10, show_default=True, type=click.IntRange(1))
@click.option("-a", "--all", "all_", is_flag=True, help="All tasks.")
@click.option("-s", "--status", type=click.Choice([s.value for s in Status]))
@click.option("-p", "--project", help="Only tasks of this project.")
@json_option
def list_(last_n: int, all_: bool, status: str | None, project: str | None, json_: bool) -> None:
    """List the last tasks, newest first."""
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
        TABLE[info.status].label,
        moment(info["create_time"]),
        moment(info["start_time"]),
        format_seconds(task.get_computation_time(cached=True)),
        info.machine_type,
    ]


@command.command()
@click.argument("task_id")
@json_option
def info(task_id: str, json_: bool) -> None:
    """Show all about a task."""
    task = require(task_id)
    if json_:
        as_json(dict(task.info))
        return
    click.echo(str(task.info))
    click.echo("History:")
    for row in task.info["status_history"]:
        click.echo(f"  {moment(row['timestamp'])}  {row['alias']}: {row['description']}")
        for operation in row["operations"]:
            what = operation["attributes"].get("command") or operation["alias"]
            click.echo(f"    {moment(operation['start_timestamp'])}  {what}")
    if (task.info.get("attempt") or 0) > 1:
        click.echo("Attempts:")
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
@click.argument("task_id")
@json_option
def explain(task_id: str, json_: bool) -> None:
    """Say why a task waits."""
    found = require(task_id).explain()
    if json_:
        as_json(found)
    else:
        click.echo(found["sentence"])


@command.command()
@click.argument("task_ids", nargs=-1, required=True, metavar="TASK_ID...")
@click.option("-q", "--quiet", is_flag=True, help="Show neither status nor log lines.")
def wait(task_ids: tuple[str, ...], quiet: bool) -> None:
    """Wait until tasks have ended; the exit code is 1 unless all of them succeeded."""
    tasks = [require(t) for t in task_ids]
    ends = [t.wait(silent_mode=quiet, download_std_on_completion=False) for t in tasks]
    for task, end in zip(tasks, ends, strict=True):
        click.echo(f"{task.id}  {TABLE[end].label}")
    sys.exit(any(end != Status.SUCCESS for end in ends))


@command.command()
@click.argument("task_ids", nargs=-1, required=True, metavar="TASK_ID...")
@click.option("-w", "--wait-timeout", type=click.FloatRange(0), help="Seconds to wait for it.")
@click.option("--discard", is_flag=True, help="Do not keep what they have put out.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def kill(task_ids: tuple[str, ...], wait_timeout: float | None, discard: bool, yes: bool) -> None:
    """Kill tasks."""
    tasks = [require(t) for t in task_ids]
    if not yes:
        click.echo("You are about to kill these tasks:")
        for task in tasks:
            click.echo(f"  {task.id}  {TABLE[task.info.status].label}")
        click.confirm("Kill them?", abort=True)
    good = True
    for task in tasks:
        if task.info.is_terminal:
            good = False
            click.echo(f"Task {task.id} has ended already.", err=True)
            continue
        killed = task.kill(wait_timeout, verbosity_level=1, discard_outputs=discard)
        good = killed is not False and good
        if wait_timeout is None:
            click.echo(f"Asked for task {task.id} to be killed.")
    sys.exit(not good)


@command.command()
@click.argument("task_id")
@json_option
def usage(task_id: str, json_: bool) -> None:
    """Show what a task used over time."""
    found = require(task_id).get_usage()
    if json_:
        as_json(found)
        return
    headers = ["AT", "CPU TIME", "MEMORY", "PROCESSES", "READ", "WRITTEN", "DISK"]
    rows = [
        [
            moment(u["timestamp"]),
            format_seconds(u["cpu_seconds"]),
            format_bytes(u["memory_bytes"]),
            u["processes"],
            format_bytes(u["read_bytes"]),
            format_bytes(u["written_bytes"]),
            format_bytes(u["disk_bytes"]),
        ]
        for u in found
    ]
    table(headers, rows, "The task has not computed yet.")


@command.command()
@click.argument("task_id")
@click.argument("duration")
def extend(task_id: str, duration: str) -> None:
    """Let a task live longer by DURATION, such as 2h, also while it runs."""
    task = require(task_id)
    task.extend(duration)
    deadline = moment(task.info["deadline"])
    if deadline:
        click.echo(f"The deadline of task {task.id} is {deadline}.")
    else:
        click.echo(f"Task {task.id} may run for {task.info['time_to_live_seconds']:.0f} s.")


@command.command()
@click.argument("task_ids", nargs=-1, required=True, metavar="TASK_ID...")
@click.option("-f", "--filenames", multiple=True, help="Only this file; may be given again.")
@click.option("-d", "--dir", "folder", help="Folder to download to.")
@click.option("-i", "--input", "inputs", is_flag=True, help="The inputs, not the outputs.")
def download(
    task_ids: tuple[str, ...], filenames: tuple[str, ...], folder: str | None, inputs: bool
) -> None:
    """Download what tasks have put out."""
    if folder:
        config.set_output_dir(folder)
    missing = False
    for task in [require(t) for t in task_ids]:
        fetch = task.download_inputs if inputs else task.download_outputs
        place = fetch(list(filenames) or None)
        missing = missing or place is None
        click.echo(
            f"{task.id}  {place}" if place else f"{task.id}  has no such files", err=not place
        )
    sys.exit(missing)
