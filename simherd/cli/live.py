"""Verbs of `simherd tasks` that look at files, while a task runs and afterwards."""

from __future__ import annotations

import codecs
import io
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from simherd.cli import complete
from simherd.cli.render import as_json, echo, table
from simherd.cli.watch import shows
from simherd.contract import limits
from simherd.contract.live_frames import FileKind
from simherd.follow import Output
from simherd.tasks import require
from simherd.utils import format_bytes
from simherd.visible import is_terminal

#: For commands that print what a simulation wrote.
raw_option = click.option(
    "--raw", is_flag=True, help="Print control characters as they are, on a terminal too."
)
_task_id = click.argument("task_id", shell_complete=complete.task_ids)


@click.command("list-files")
@_task_id
@click.option("-l", "--long", "long_", is_flag=True, help="With sizes and times, as a table.")
@shows
def list_files(task_id: str, long_: bool, json_: bool) -> None:
    """List the files in a task's work folder, or its outputs once it has ended."""
    task = require(task_id)
    if not (json_ or long_):
        sys.exit(task.list_files()[1])
    files = task.get_files()
    if json_:
        as_json([asdict(file) for file in files])
        return
    rows = [
        [
            f"{file.name}/" if file.kind is FileKind.FOLDER else file.name,
            format_bytes(file.size) if file.kind is FileKind.FILE else file.kind.value,
            datetime.fromtimestamp(file.modified_at).strftime("%d %b, %H:%M:%S"),
        ]
        for file in files
    ]
    table(["NAME", "SIZE", "MODIFIED"], rows, "There are no files.")


@click.command()
@_task_id
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "-l",
    "--lines",
    default=10,
    show_default=True,
    type=click.IntRange(0, limits.LIVE_MAX_LINES),
    help="Lines of each file.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is added.")
@click.option("--wait", is_flag=True, help="Wait for files that are not there yet.")
@raw_option
def tail(
    task_id: str, files: tuple[str, ...], lines: int, follow: bool, wait: bool, raw: bool
) -> None:
    """Show the last lines of files of a task, and what is added to them.

    On a terminal control characters are shown escaped; in a pipe or file they are as written.
    """
    sys.exit(require(task_id).tail_files(list(files), lines, follow, wait=wait, raw=raw))


@click.command()
@_task_id
@shows
def top(task_id: str, json_: bool) -> None:
    """Show the processes of the command that a task runs."""
    text = require(task_id).top()
    if json_:
        as_json({"text": text})
    else:
        echo(text, lines=True)


@click.command("last-modified-file")
@_task_id
@shows
def last_modified_file(task_id: str, json_: bool) -> None:
    """Show the file of a task that was modified last."""
    task = require(task_id)
    if json_:
        as_json(task.get_last_modified())
    elif task.last_modified_file() is None:
        sys.exit(1)


@click.command()
@_task_id
@click.argument("file")
@click.argument("target", required=False, type=click.Path(dir_okay=False, path_type=Path))
def fetch(task_id: str, file: str, target: Path | None) -> None:
    """Fetch FILE of a task as it is now, also while it runs; to stdout where TARGET is -.

    A terminal shows control characters escaped; a pipe or file gets the bytes.
    """
    task = require(task_id)
    if target == Path("-"):
        task.copy_file(file, _Shown() if is_terminal(sys.stdout) else sys.stdout.buffer)
    else:
        echo(task.fetch_file(file, target))


class _Shown(io.BytesIO):
    """Takes the bytes of a file, and shows them on the terminal as text."""

    def __init__(self) -> None:
        super().__init__()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._out = Output(sys.stdout)

    def write(self, piece: Any) -> int:
        self._out.write(self._decoder.decode(bytes(piece)))
        return len(piece)


#: What `simherd tasks` has besides its own.
VERBS = (list_files, tail, top, last_modified_file, fetch)
