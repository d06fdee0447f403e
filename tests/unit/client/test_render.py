"""What the command line prints: columns, colours, moments."""

from __future__ import annotations

import json
import unicodedata
from io import StringIO
from typing import TYPE_CHECKING, Any

import click
import pytest

from simherd.cli.render import Cell, as_json, echo, moment, status_cell, table
from simherd.contract.lifecycle import RUNNING, TABLE, Status

if TYPE_CHECKING:
    from collections.abc import Callable


class Terminal(StringIO):
    """Takes what is printed, as a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """A function that prints a table on a terminal of so many columns and returns its lines."""

    def printed(columns: int, headers: list[str], *rows: list[Any]) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr("sys.stdout", out := Terminal())
        table(headers, list(rows), "Nothing.")
        return out.getvalue().splitlines()

    return printed


def cells(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in click.unstyle(line))


def test_no_rows_are_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    table(["NAME"], [], "There are no tasks.")
    assert capsys.readouterr().out == "There are no tasks.\n"


def test_a_pipe_gets_every_row_on_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    long = "simulator " * 50
    table(["ID", "NAME"], [["a", Cell(long.strip(), "green")], ["bcd", None]], "")
    assert capsys.readouterr().out == f"ID   NAME\na    {long.strip()}\nbcd  -\n"


def test_invisible_characters_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    table(["ID"], [["a\x1b[2J\nforged"], ["[red]not markup[/red] :smile:"]], "")
    assert capsys.readouterr().out.splitlines()[1:] == [
        r"a\x1b[2J\nforged",
        "[red]not markup[/red] :smile:",
    ]


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_a_table_fits_its_terminal_and_loses_nothing(
    on_terminal: Callable[..., list[str]], columns: int
) -> None:
    words = [f"word{n}" for n in range(20)]
    lines = on_terminal(
        columns, ["ID", "TEXT", "NAME"], ["id-1", " ".join(words), "n" * 40], ["id-2", "b", "m"]
    )
    assert max(map(cells, lines)) <= columns
    shown = " ".join(lines)
    assert [w for w in words if w not in shown] == []
    assert (shown.count("n"), "…" in shown) == (40, False)


def test_the_first_column_is_never_folded(on_terminal: Callable[..., list[str]]) -> None:
    lines = on_terminal(20, ["ID", "TEXT"], ["identifier-" * 3, "one two three four"])
    assert sum("identifier-" * 3 in line for line in lines) == 1


def test_wide_characters_take_two_columns(on_terminal: Callable[..., list[str]]) -> None:
    lines = on_terminal(80, ["NAME", "N"], ["速度", 1], ["abcd", 22])
    assert [cells(line) for line in lines[1:]] == [7, 8]


def test_headings_are_bold_and_colours_end_before_the_gap(
    on_terminal: Callable[..., list[str]],
) -> None:
    head, row = on_terminal(80, ["ID", "STATUS", "N"], ["a", Cell("Success", "green"), 1])
    assert head.startswith("\x1b[1mID\x1b[0m")
    assert "\x1b[32mSuccess\x1b[0m  1" in row


def test_no_color_is_for_tables_too(
    on_terminal: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    with click.Context(click.Command("x")) as context:
        context.color = False
        lines = on_terminal(80, ["ID"], [Cell("a", "green")])
    assert lines == ["ID", "a"]


@pytest.mark.parametrize("status", list(Status))
def test_a_status_has_the_colour_of_its_outcome(status: Status) -> None:
    cell = status_cell(status)
    assert cell.text == TABLE[status].label
    colours = {"green": status == Status.SUCCESS, "red": TABLE[status].failed}
    assert all((cell.colour == colour) == is_so for colour, is_so in colours.items())
    if cell.colour == "cyan":
        assert status in RUNNING


def test_moments_are_in_the_zone_of_the_machine() -> None:
    assert moment(None) is None
    assert moment("2026-01-02T03:04:05+00:00") is not None


def test_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    as_json({"name": "速度\x1b"})
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {"name": "速度\x1b"}


@pytest.mark.parametrize(("lines", "shown"), [(True, "a\nb\n"), (False, "a\\nb\n")])
def test_a_text_has_several_lines_only_where_it_may(
    capsys: pytest.CaptureFixture[str], lines: bool, shown: str
) -> None:
    echo("a\nb", lines=lines)
    assert capsys.readouterr().out == shown
