"""`simherd sim` where nothing can be broken, and what is written about it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from simherd_drills.cli import command
from simherd_drills.drills import DRILLS

from simherd.errors import InvalidInput
from simherd.utils import parse_size

_PAGE = (Path(__file__).parents[2] / "docs" / "drills.md").read_text()


def test_without_the_drills_the_error_says_what_installs_them() -> None:
    script = "import sys; sys.modules['simherd_drills.cli'] = None; "
    script += "sys.argv = ['simherd', 'sim', 'list']; from simherd.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == ("Error: `simherd sim` is not installed: pip install simherd-drills\n")


@pytest.mark.parametrize("name", sorted(DRILLS))
def test_each_drill_is_a_command_and_is_written_about(name: str) -> None:
    assert name in command.commands
    assert f"simherd sim {name}" in _PAGE


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("freeze", "Name the machines, or use --group."),
        ("freeze m-1 --group fleet", "Name the machines, or use --group."),
        ("freeze m-1 --for soon", "for: 'soon' is not a duration"),
        ("reclaim m-1 --notice never", "notice: 'never' is not a duration"),
        ("fill-disk m-1 --leave much", "leave: 'much' is not a size"),
        ("slow-storage --rate slow", "rate: 'slow' is not a rate"),
        ("break-storage --how gently", "'gently' is not one of"),
    ],
)
def test_a_senseless_request_is_refused_before_any_change(
    monkeypatch: pytest.MonkeyPatch, typed: str, said: str
) -> None:
    # The signals of the run are its own.
    monkeypatch.setattr("simherd_drills.cli.listen", lambda: None)
    done = CliRunner().invoke(command, typed.split(), standalone_mode=False)
    assert said in str(getattr(done.exception, "message", done.exception))


def test_sizes_are_read() -> None:
    sizes = {"100MB": 100 * 10**6, "1.5GiB": 3 * 2**29, "7": 7, "2 kb": 2000, "1KiB": 1024}
    assert {text: parse_size(text) for text in sizes} == sizes
    with pytest.raises(InvalidInput, match="leave: '5 apples' is not a size"):
        parse_size("5 apples", "leave")
