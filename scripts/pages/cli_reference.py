"""The command line's reference: `python -m scripts.pages.cli_reference > docs/reference/cli.md`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import click

from simherd.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = """# Command line

Made from the commands themselves by `python -m scripts.pages.cli_reference`.

Every command has `-h`/`--help`. What only shows something has `--json`, and `-w`/`--watch` to show
it again and again. What cannot be undone asks first; use `-y` where nobody can be asked.
`ls`, `rm`, `ul` and `dl` stand for the verbs `list`, `remove`, `upload` and `download`.

Exit codes: 0 all is well, 1 an error (or a task that did not succeed), 2 wrong usage, 130 Ctrl-C.
Colours are for terminals alone; `NO_COLOR=1` does without.
"""


def page() -> str:
    """The whole page, as Markdown."""
    root = click.Context(cli, info_name="simherd", terminal_width=80)
    return "\n".join([_HEAD, *_below(cli, root)])


def _below(group: click.Group, ctx: click.Context) -> Iterator[str]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, parent=ctx, info_name=name, terminal_width=80)
        yield from _section(command, inner)
        if isinstance(command, click.Group):
            yield from _below(command, inner)


def _section(command: click.Command, ctx: click.Context) -> Iterator[str]:
    depth = len(ctx.command_path.split())
    yield f"{'#' * depth} {ctx.command_path}\n"
    yield _prose(command.help or "")
    if isinstance(command, click.Group):
        return
    yield f"```\n{' '.join([ctx.command_path, *command.collect_usage_pieces(ctx)])}\n```\n"
    rows = [
        r for p in command.params if isinstance(p, click.Option) and (r := p.get_help_record(ctx))
    ]
    if rows:
        yield "| option | |\n|---|---|"
        yield from (f"| `{_cell(names)}` | {_cell(said)} |" for names, said in rows)
        yield ""


def _prose(text: str) -> str:
    return inspect.cleandoc(text).replace("\b\n", "").rstrip() + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
