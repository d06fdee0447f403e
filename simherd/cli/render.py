"""Output of the command line: tables for people, JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import datetime
from typing import Any, NamedTuple

import click

from simherd.contract.lifecycle import RUNNING, TABLE, Status
from simherd.visible import visible, visible_line

#: Between two columns.
_GAP = "  "
#: What a column is shortened to at the most, cells.
_NARROWEST = 6


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
    """Print rows as columns that fit what is in them; `empty` where there are none.

    On a terminal that is too narrow the widest columns are shortened, but never the first one,
    which says what a row is about. What is piped is whole.
    """
    if not rows:
        echo(empty)
        return
    texts = [headers, *([_text(cell) for cell in row] for row in rows)]
    widths = [max(_cells(row[i]) for row in texts) for i in range(len(headers))]
    if sys.stdout.isatty():
        widths = _fitted(widths, shutil.get_terminal_size().columns)
    _line(headers, [Cell(h, "") for h in headers], widths, bold=True)
    for text, row in zip(texts[1:], rows, strict=True):
        _line(text, row, widths)


def _text(cell: Any) -> str:
    return visible_line("-" if cell is None else cell.text if isinstance(cell, Cell) else cell)


def _cells(text: str) -> int:
    """Columns of a terminal that a text takes: wide characters take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _fitted(widths: list[int], room: int) -> list[int]:
    found = list(widths)
    while sum(found) + len(_GAP) * (len(found) - 1) > room and len(found) > 1:
        widest = max(range(1, len(found)), key=found.__getitem__)
        if found[widest] <= _NARROWEST:
            break
        found[widest] -= 1
    return found


def _line(texts: list[str], row: list[Any], widths: list[int], bold: bool = False) -> None:
    shown = []
    for text, cell, width in zip(texts, row, widths, strict=True):
        padded = _padded(text, width)
        colour = cell.colour if isinstance(cell, Cell) else None
        shown.append(click.style(padded, fg=colour) if colour else padded)
    line = _GAP.join(shown).rstrip()
    click.echo(click.style(line, bold=True) if bold else line)


def _padded(text: str, width: int) -> str:
    cells = _cells(text)
    if cells <= width:
        return text + " " * (width - cells)
    from rich.cells import set_cell_size

    return set_cell_size(text, width - 1) + "…"


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
