"""What `simherd resources start` asks before a large or expensive group: on a real API, through a
real terminal and through pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from scheduler.services.accounts.users import create_key, create_user
from scheduler.store.models import GroupRow
from tests.support.api import serving
from tests.support.runtime import make_runtime
from tests.support.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scheduler.store.engine import Store
    from scheduler.wiring import Runtime

LARGE = ("local", "-n", "9")
QUESTION = "Start 9 machines of local, up to 0.09 US$/h?"


class Shell:
    """A user's shell, with an API whose groups never get machines."""

    def __init__(self, rt: Runtime, url: str, key: str, folder: Path) -> None:
        self.rt, self.folder = rt, folder
        mine = {k: v for k, v in os.environ.items() if not k.startswith("SIMHERD_")}
        self.environment = {**mine, "SIMHERD_API_URL": url, "SIMHERD_API_KEY": key}

    def start(self, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        """`simherd resources start`, with this as its standard input."""
        argv = [sys.executable, "-m", "simherd.cli.main", "resources", "start", *words]
        return subprocess.run(
            argv,
            input=typed,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def groups(self) -> int:
        """How many are there."""
        with self.rt.store.read() as session:
            return len(session.scalars(select(GroupRow.id)).all())


@pytest.fixture(scope="module")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('db') / 'test.db'}"


@pytest.fixture(scope="module")
def shell(
    database_url: str, store: Store, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("folder")
    table = folder / "machine_types.toml"
    table.write_text(
        """
[providers]
GCP = "local"
[defaults]
zone = "here"
region = "here"
[[machine_type]]
name = "local"
vcpus = 2
memory_gb = 4
on_demand = 0.01
spot = 0.01
[[machine_type]]
name = "dear"
vcpus = 2
memory_gb = 4
on_demand = 6
spot = 1
"""
    )
    more = {"machine_types_file": table, "max_machines": {"local": 900}}
    rt, _ = make_runtime(database_url, redis_url, folder, **more)
    rt.__dict__["send_job"] = lambda *_: None
    with rt.store.write() as session:
        key = create_key(session, create_user(session, "ada", "ada@localhost").id, "test")
    with serving(rt) as url:
        yield Shell(rt, url, key, folder)


def test_a_large_group_is_started_with_a_yes_from_a_pipe(shell: Shell) -> None:
    done = shell.start(*LARGE, "--json", typed="y\n")
    assert done.returncode == 0, done.stderr
    assert f"{QUESTION} [y/N]" in done.stderr
    assert json.loads(done.stdout)["num_vms"] == 9


@pytest.mark.parametrize(("typed", "code"), [("n\n", 1), ("\n", 1), ("", 2)])
def test_without_a_yes_nothing_is_registered(shell: Shell, typed: str, code: int) -> None:
    before = shell.groups
    done = shell.start(*LARGE, typed=typed)
    assert done.returncode == code
    assert QUESTION in done.stderr
    assert ("--yes" in done.stderr) == (code == 2)
    assert "Traceback" not in done.stderr
    assert shell.groups == before


@pytest.mark.parametrize(
    "words",
    [
        (*LARGE, "-y"),
        ("local", "-n", "8"),
        ("dear", "-n", "2"),
    ],
)
def test_with_yes_or_below_the_bounds_nothing_is_asked(
    shell: Shell, words: tuple[str, ...]
) -> None:
    done = shell.start(*words, "--from", "local", "--time-limit", "1h")

    assert "?" not in done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "question"),
    [
        (("local", "--max", "12"), "Start 12 machines of local, up to 0.12 US$/h?"),
        (("dear", "-n", "2", "--on-demand"), "Start 2 machines of dear, up to 12.00 US$/h?"),
        (("dear", "-n", "2", "--on-demand-fallback"), "Start 2 machines of dear, up to 12.00"),
    ],
)
def test_it_asks_for_what_the_group_may_become_and_cost(
    shell: Shell, words: tuple[str, ...], question: str
) -> None:
    assert question in shell.start(*words).stderr


def test_on_a_terminal_the_question_is_answered_by_typing(shell: Shell) -> None:
    before = shell.groups
    words = ["resources", "start", *LARGE]
    terminal = Terminal(words, shell.folder, shell.environment)
    terminal.shows(f"{QUESTION} [y/N]")
    terminal.type("n\n")
    code, shown = terminal.ends()
    assert (code, shell.groups) == (1, before)
    assert "Nothing was started." in shown


def test_a_refused_request_asks_no_question(shell: Shell) -> None:
    before = shell.groups
    done = shell.start("local", "-n", "950", typed="y\n")
    assert done.returncode == 1
    assert "num_machines: 950 asked for is too many" in done.stderr
    assert "[y/N]" not in done.stderr
    assert shell.groups == before


def test_a_least_number_needs_a_largest(shell: Shell) -> None:
    done = shell.start("local", "--min", "2")
    assert done.returncode == 2
    assert "--min needs --max" in done.stderr
