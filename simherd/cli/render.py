"""Output of the command line: tables for people, JSON for programs."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import click


class Aliased(click.Group):
    """A group some of whose commands have a second, short name."""

    def __init__(self, *given: Any, aliases: dict[str, str], **more: Any) -> None:
        """`aliases`: short name → command."""
        super().__init__(*given, **more)
        self._aliases = aliases

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """See `click.Group`."""
        return super().get_command(ctx, self._aliases.get(name, name))


def as_json(data: Any) -> None:
    """Print data for programs."""
    click.echo(json.dumps(data, indent=2))


def table(headers: list[str], rows: list[list[Any]], empty: str) -> None:
    """Print rows as columns that fit what is in them; `empty` where there are none."""
    if not rows:
        click.echo(empty)
        return
    cells = [headers, *([("-" if c is None else str(c)) for c in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def moment(timestamp: str | None) -> str | None:
    """An instant in this machine's time zone."""
    if timestamp is None:
        return None
    return datetime.fromisoformat(timestamp).astimezone().strftime("%d %b, %H:%M:%S")


json_option = click.option("--json", "json_", is_flag=True, help="Print JSON.")
