"""What the command line is made of, and its reference."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from scripts.pages import cli_reference
from simherd.cli.parts import Spread, Verbs, confirm, yes_option
from tests.conftest import REPOSITORY


def test_the_reference_is_up_to_date() -> None:
    page = (REPOSITORY / "docs" / "reference" / "cli.md").read_text()
    assert page == cli_reference.page(), (
        "python -m scripts.pages.cli_reference > docs/reference/cli.md"
    )


@click.command(cls=Spread, spread=["--files"])
@click.argument("ids", nargs=-1)
@click.option("-f", "--files", multiple=True)
@click.option("-n", type=int)
def download(ids: tuple[str, ...], files: tuple[str, ...], n: int | None) -> None:
    """Echo what was understood."""
    click.echo(f"{ids} {files} {n}")


@pytest.mark.parametrize(
    ("typed", "understood"),
    [
        ("", "() () None"),
        ("one two --files a b", "('one', 'two') ('a', 'b') None"),
        ("one --files a b -n 3", "('one',) ('a', 'b') 3"),
        ("-f a one", "('one',) ('a',) None"),
        ("-f a --files b c -f d one", "('one',) ('a', 'b', 'c', 'd') None"),
        ("--files=a one", "('one',) ('a',) None"),
        ("--files a -n 3 one", "('one',) ('a',) 3"),
        ("one --files a -- two", "('one', 'two') ('a',) None"),
    ],
)
def test_an_option_takes_several_values(typed: str, understood: str) -> None:
    done = CliRunner().invoke(download, typed.split())
    assert done.output.strip() == understood


@pytest.mark.parametrize("typed", ["one --files", "--files -n 3 one"])
def test_an_option_without_any_value_is_an_error(typed: str) -> None:
    done = CliRunner().invoke(download, typed.split())
    assert done.exit_code == 2
    assert "'--files' requires an argument" in done.output


def test_verbs_have_short_names() -> None:
    group = Verbs("storage")
    for name in ("list", "remove"):
        group.command(name)(lambda name=name: click.echo(name))
    runner = CliRunner()
    assert runner.invoke(group, ["ls"]).output == "list\n"
    assert runner.invoke(group, ["rm"]).output == "remove\n"
    assert "list, ls" in runner.invoke(group, ["--help"]).output
    assert runner.invoke(group, ["ul"]).exit_code == 2


@click.command()
@yes_option
def end(yes: bool) -> None:
    """Ask."""
    confirm("End it?", yes)
    click.echo("ended")


@pytest.mark.parametrize(
    ("words", "piped", "code", "shown"),
    [
        ("", "y\n", 0, "ended"),
        ("", "n\n", 1, ""),
        ("", "\n", 1, ""),
        ("", "", 2, ""),
        ("--yes", "", 0, "ended"),
    ],
)
def test_a_question_takes_its_reply_from_a_pipe(
    words: str, piped: str, code: int, shown: str
) -> None:
    done = CliRunner().invoke(end, words.split(), input=piped)
    assert (done.exit_code, done.stdout.strip()) == (code, shown)
    assert ("Nothing was done." in done.stderr) == (code == 1)
    assert ("say it with --yes" in done.stderr) == (code == 2)


def test_every_command_asks_by_the_one_function() -> None:
    folder = REPOSITORY / "simherd" / "cli"
    askers = [f.name for f in folder.rglob("*.py") if "click.confirm" in f.read_text()]
    assert askers == ["parts.py"]
