"""What commands are made of: groups with aliases, options with several values, questions."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from simherd.cli.render import echo
from simherd.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: What may be typed in place of a verb.
_ALIASES = {"ls": "list", "rm": "remove", "ul": "upload", "dl": "download"}


class Verbs(click.Group):
    """A group whose verbs have the usual short names as well."""

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of this name or alias."""
        return super().get_command(ctx, name) or super().get_command(ctx, _ALIASES.get(name, name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The same, so that usage and errors say its name and not its alias."""
        _, command, rest = super().resolve_command(ctx, args)
        return command.name if command else None, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their aliases."""
        short = {verb: alias for alias, verb in _ALIASES.items()}
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                shown = f"{name}, {short[name]}" if name in short else name
                rows.append((shown, command.get_short_help_str(formatter.width)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class Spread(click.Command):
    """A command with options that take all values up to the next option: `--files a.txt b.txt`."""

    def __init__(self, *arguments: Any, spread: Iterable[str], **named: Any) -> None:
        """`spread`: these options."""
        super().__init__(*arguments, **named)
        self._spread = frozenset(spread)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option before each value: so click knows it."""
        found: list[str] = []
        option: str | None = None
        for word, following in zip(args, [*args[1:], "-"], strict=False):
            if not word.startswith("-"):
                found += [option, word] if option else [word]
                continue
            option = word if word in self._spread else None
            if option is None:
                found.append(word)
            elif following.startswith("-"):
                raise click.BadOptionUsage(word, f"Option {word!r} requires an argument.", ctx)
        return super().parse_args(ctx, found)


def yes_option(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--yes`, for `confirm`."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(command)


def exactly_one(sentence: str, *given: object) -> None:
    """Refuse a command line with none, or with several, of what excludes each other.

    Args:
        sentence: what to give, such as "Name users, or use --all."
        given: each of them; what is empty or False was not given.

    Raises:
        UsageError: none or several were given.
    """
    count = sum(map(bool, given))
    if count == 0:
        raise click.UsageError(sentence)
    if count > 1:
        raise click.UsageError(f"{sentence} Give one of them, not both.")


def confirm(
    question: str, yes: bool, *, option: str = "--yes", refused: str = "Nothing was done."
) -> None:
    """Ask before something expensive or final, unless the user has said yes already.

    A reply that is piped in counts. The question goes to stderr: a program may read stdout.

    Args:
        question: what is asked.
        yes: whether an option said yes.
        option: that option.
        refused: what to print where the reply is no.

    Raises:
        UsageError: the input ended without a reply.
        Exit: the reply was no.
    """
    if yes:
        return
    try:
        is_agreed = click.confirm(visible(question), err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        echo("", err=True)
        raise click.UsageError(f"{question} There was no reply: say it with {option}.") from None
    if not is_agreed:
        echo(refused, err=True)
        raise click.exceptions.Exit(1)
