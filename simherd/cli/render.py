"""Output of the command line: tables for people, JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from simherd.contract.lifecycle import RUNNING, TABLE, Status
from simherd.visible import visible, visible_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

#: Heading → the field of a row that the column shows, or a function of the row.
Columns = Mapping[str, str | Callable[[Any], Any]]

#: What a column and the gap after it are narrowed to at the most, cells.
_NARROWEST = 8
#: More than any row needs, cells: nothing is folded.
_ANY_WIDTH = 100_000


class Cell(NamedTuple):
    """A table's cell with a colour."""

    text: str
    colour: str


def echo(
    text: object, *, lines: bool = False, err: bool = False, bold: bool = False, colour: str = ""
) -> None:
    """Print a text for people: everything that a command prints goes through here.

    Args:
        text: what to print; control characters in it are shown, see `simherd.visible`.
        lines: whether it may have several lines; otherwise a line feed in it is escaped too.
        err: to standard error.
        bold: in bold type, where there is a terminal.
        colour: the name of a colour, where there is a terminal.
    """
    shown = visible(text) if lines else visible_line(text)
    if bold or colour:
        shown = click.style(shown, fg=colour or None, bold=bold or None)
    click.echo(shown, err=err)


def as_json(data: Any) -> None:
    """Print data for programs. JSON in ASCII escapes all that is not."""
    echo(json.dumps(data, indent=2), lines=True)


def table(headers: list[str], rows: list[list[Any]], empty: str) -> None:
    """Print rows as columns that fit their contents, or `empty` where there are none.

    On a terminal that is too narrow the widest columns are folded, but never the first one, which
    names the row. A pipe or a file gets every row on one line.
    """
    if not rows:
        echo(empty)
        return
    from rich.console import Console
    from rich.table import Table

    heads = [Cell(header, "bold") for header in headers]
    cells = [[_text(cell) for cell in row] for row in [heads, *rows]]
    grid = Table.grid(padding=(0, 2, 0, 0))
    for number in range(len(headers)):
        grid.add_column(overflow="fold", no_wrap=not number)
    for row in cells:
        grid.add_row(*row)
    width = _ANY_WIDTH
    if sys.stdout.isatty():
        first = max(row[0].cell_len for row in cells)
        least = first + _NARROWEST * (len(headers) - 1)
        width = max(shutil.get_terminal_size().columns, least)
    # click knows whether colours are wanted, and takes them out where they are not.
    console = Console(width=width, force_terminal=True, color_system="standard", no_color=False)
    with console.capture() as printed:
        console.print(grid)
    for line in printed.get().splitlines():
        click.echo(line.rstrip())


def listing(rows: Sequence[Any], columns: Columns, empty: str, json_: bool = False) -> None:
    """Print rows as JSON, or as a table; `empty` where there are none."""
    if json_:
        as_json(rows)
        return
    shown = [[row[c] if isinstance(c, str) else c(row) for c in columns.values()] for row in rows]
    table(list(columns), shown, empty)


def _text(cell: Any) -> Text:
    from rich.text import Text

    text, style = cell if isinstance(cell, Cell) else ("-" if cell is None else cell, "")
    return Text.assemble((visible_line(text), style))  # a span: the padding has no colour


def status_cell(status: Status) -> Cell:
    """A task's status in its colour."""
    row = TABLE[status]
    if status == Status.SUCCESS:
        return Cell(row.label, "green")
    if row.failed:
        return Cell(row.label, "red")
    return Cell(row.label, "cyan" if status in RUNNING else "")


def moment(timestamp: str | None) -> str | None:
    """An instant in this machine's time zone."""
    if timestamp is None:
        return None
    return datetime.fromisoformat(timestamp).astimezone().strftime("%d %b, %H:%M:%S")


json_option = click.option("--json", "json_", is_flag=True, help="Print JSON.")
