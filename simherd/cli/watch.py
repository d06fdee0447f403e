"""`--watch`: a command that shows something shows it again and again."""

from __future__ import annotations

import contextlib
import functools
import io
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from simherd.cli.render import echo, json_option
from simherd.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds between two looks, where nothing else is said.
_EVERY_S = 2.0
#: To the terminal's upper left corner, and clear everything from there on.
_CLEAR = "\x1b[H\x1b[J"

_watch_option = click.option(
    "-w",
    "--watch",
    "every",
    is_flag=False,
    flag_value=_EVERY_S,
    type=click.FloatRange(0.1),
    metavar="[SECS]",
    help=f"Show it again every SECS seconds ({_EVERY_S:g}) until Ctrl-C.",
)


def shows(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that only shows something `--json` and `--watch`."""

    @json_option
    @_watch_option
    @functools.wraps(command)
    def shown(*arguments: Any, every: float | None, **named: Any) -> None:
        show = functools.partial(command, *arguments, **named)
        if every is None:
            show()
        else:
            with contextlib.suppress(KeyboardInterrupt):
                _repeat(show, every, "" if named["json_"] else "---\n")

    return shown


def _repeat(show: Callable[[], None], every_s: float, separator: str) -> None:
    """Show it until Ctrl-C: on a terminal in place of what was there, else one below the other."""
    first = True
    while True:
        page = _page(show)
        if sys.stdout.isatty():
            now = datetime.now().strftime("%H:%M:%S")
            page = f"{_CLEAR}Every {every_s:g} s, now {now}. Ctrl-C ends it.\n\n{page}"
        elif not first:
            page = separator + page
        sys.stdout.write(page)
        sys.stdout.flush()
        first = False
        time.sleep(every_s)


class _Page(io.StringIO):
    """Takes what is shown as standard output would, so that all of it appears at once."""

    def __init__(self, like_terminal: bool) -> None:
        super().__init__()
        self._like_terminal = like_terminal

    def isatty(self) -> bool:
        return self._like_terminal


def _page(show: Callable[[], None]) -> str:
    page = _Page(sys.stdout.isatty())
    with contextlib.redirect_stdout(page):
        try:
            show()
        except Unreachable as error:
            # The page shows when the server is back.
            echo(error)
    return page.getvalue()
