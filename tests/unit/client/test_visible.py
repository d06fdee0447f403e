"""Text of others on a terminal: nothing in it steers the terminal or hides there."""

from __future__ import annotations

import ast
import io
import logging
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.pages.import_graph import nodes
from simherd.cli import complete
from simherd.cli.render import echo, table
from simherd.contract.objects import STDERR, STDOUT
from simherd.errors import ApiError
from simherd.follow import FollowUpdate, Output, Printer
from simherd.output_info import FileInfo, TaskOutputInfo
from simherd.task_live import draw_tree
from simherd.visible import VisibleStream, say, visible, visible_line
from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Sets the title, clears the screen, turns the text round, and a C1 control sequence introducer.
HOSTILE = "a\x1b]0;title\x07\x1b[2J\x1bPq\x1b\\\u202eb\x9b31m\u200bc"
SHOWN = r"a\x1b]0;title\x07\x1b[2J\x1bPq\x1b\\u202eb\x9b31m\u200bc"
ANY_TEXT = st.text(st.characters()) | st.text(st.sampled_from("\r\n\t\x1b\x9b[m\u202e\ufeffx"))


class Terminal(io.StringIO):
    """Takes what is printed, as a terminal."""

    def isatty(self) -> bool:
        return True


def hidden(text: str, allowed: str) -> list[str]:
    """Characters that a terminal obeys or does not show."""
    kinds = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    return [c for c in text if unicodedata.category(c) in kinds and c not in allowed]


@given(ANY_TEXT)
def test_printed_text_has_no_terminal_control_sequences(text: str) -> None:
    assert hidden(visible(text), "\n\t") == []
    assert hidden(visible_line(text), "") == []


@given(st.lists(ANY_TEXT))
def test_pieces_are_shown_as_the_whole_is(pieces: list[str]) -> None:
    stream = VisibleStream()
    assert "".join(map(stream.feed, pieces)) == visible("".join(pieces))


#: Letters and marks that have no shape.
BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"


@given(st.text(st.characters(whitelist_categories=("L", "N", "P", "S", "Zs"))))
def test_visible_characters_are_unchanged(text: str) -> None:
    seen = "".join(c for c in text if c not in BLANK)
    assert visible(seen) == seen


def test_sequences_are_shown_as_python_would_write_them() -> None:
    assert visible(HOSTILE) == SHOWN
    assert visible("10 %\r20 %\r\nready\n") == "10 %\n20 %\nready\n"
    assert visible_line("two\nlines\tand\rmore") == r"two\nlines\tand\rmore"
    assert visible("\U000e0041\u3164") == r"\U000e0041\u3164"
    assert visible("Übung ⚠️ 速度 │├─") == "Übung ⚠️ 速度 │├─"


@pytest.mark.parametrize("file", [STDOUT, STDERR])
@pytest.mark.parametrize(
    ("out", "raw", "wanted"),
    [
        (Terminal, False, SHOWN),
        (Terminal, True, HOSTILE),
        # A file or a pipe gets what was written.
        (io.StringIO, False, HOSTILE),
    ],
)
def test_log_lines_are_visible_on_a_terminal(file: str, out: Any, raw: bool, wanted: str) -> None:
    shown = out()
    printer = Printer(Output(shown, raw=raw))
    for piece in (HOSTILE[:3], HOSTILE[3:] + "\n"):
        printer.show(FollowUpdate("text", {"file": file, "text": piece}))
    assert shown.getvalue() == wanted + "\n"


@pytest.mark.fault("B16")
def test_tables_names_and_errors_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    name = f"{HOSTILE}\nforged line"
    table(["NAME", "SIZE"], [[name, 1]], "")
    echo(f"Removed {name}.", bold=True)
    say(f"Task {name}")
    sys.stdout.write(draw_tree([]) + str(TaskOutputInfo(1, [FileInfo(name, 1, 1)])) + "\n")
    shown = capsys.readouterr().out
    assert hidden(shown, "\n") == []
    assert shown.count(rf"{SHOWN}\nforged line") == 4
    assert hidden(str(ApiError(f"There is no {name}.", 404)), "\n") == []


def test_colours_of_our_own_still_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", terminal := Terminal())
    echo("\x1b[31mname", colour="green")
    assert terminal.getvalue() == "\x1b[32m\\x1b[31mname\x1b[0m\n"


def test_a_shell_is_offered_no_name_that_it_would_carry_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ["good name", "$(reboot)", "a`b`", "a\nplain,b", "a;b", "速度"]
    rows = [{"name": name, "num_tasks": f"1\n{HOSTILE}"} for name in names]
    monkeypatch.setattr(complete, "_ask", lambda *_a, **_k: rows)
    offered = complete.projects(None, None, "")  # type: ignore[arg-type]
    assert [item.value for item in offered] == ["good name", "速度"]
    assert hidden("".join(item.help or "" for item in offered), "") == []


#: Modules that may write past `say` and `echo`, and why.
PAST_IT = {
    "simherd/visible.py",  # it is `say`
    "simherd/cli/render.py",  # it is `echo`
    "simherd/cli/watch.py",  # pages of what commands have printed with `echo`
    "simherd/cli/up_view.py",  # clears its own line
    "simherd/cli/completion.py",  # a script for a shell
    "simherd/runtime/health_check.py",  # a command for Docker, which shows names of our own
    "simherd/demo_data/splash.py",  # a simulation
}


def printing(file: Path) -> Iterator[str]:
    for node in nodes(file):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called == "print" or called.endswith(
                ("click.echo", "click.secho", "stdout.write", "stderr.write")
            ):
                yield f"{file.relative_to(REPOSITORY)}:{node.lineno}: {called}"


def test_all_that_is_printed_goes_through_it() -> None:
    past: list[str] = []
    rooms = [REPOSITORY / "simherd", REPOSITORY / "drills" / "simherd_drills"]
    for file in sorted(file for room in rooms for file in room.rglob("*.py")):
        if file.relative_to(REPOSITORY).as_posix() not in PAST_IT:
            past += printing(file)
    assert past == []


@pytest.mark.fault("B16")
def test_a_trace_in_a_text_log_cannot_forge_a_line() -> None:
    from simherd.runtime.logs import TextLines

    try:
        raise ValueError("name\n2026-01-01 INFO event=forged \x1b[2J")
    except ValueError:
        record = logging.LogRecord("x", 40, __file__, 1, "event=broke", (), sys.exc_info())
    text = TextLines("%(levelname)s %(message)s").format(record)
    assert hidden(text, "\n") == []
    assert [line for line in text.splitlines() if not line.startswith("  ")] == [
        "ERROR event=broke"
    ]
