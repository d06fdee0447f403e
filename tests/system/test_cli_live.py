"""The commands that look at a task's files while it runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.system.test_live_files import Running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.env import Env

# Each command is a separate process.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(env: Env) -> Iterator[Running]:
    made = Running(env)
    yield made
    made.stop()


@pytest.mark.conforms("tasks list-files")
def test_files_are_listed(env: Env, running: Running) -> None:
    tree = env.cli("tasks", "list-files", running.id)
    assert tree.returncode == 0, tree.stderr
    assert "├── deep\n│   └── er\n│       └── data.txt\n" in tree.stdout
    rows = json.loads(env.cli("tasks", "list-files", running.id, "--json").stdout)
    assert {"deep", "deep/er", "deep/er/data.txt", "stdout.txt"} <= {r["name"] for r in rows}


@pytest.mark.conforms("tasks tail")
def test_the_ends_of_files_are_shown(env: Env, running: Running) -> None:
    done = env.cli("tasks", "tail", running.id, "deep/er/data.txt", "stdout.txt", "-l", "2")
    assert done.returncode == 0, done.stderr
    assert "==> deep/er/data.txt <==\nline 998\nline 999\n" in done.stdout
    missing = env.cli("tasks", "tail", running.id, "none.txt")
    assert (missing.returncode, "none.txt" in missing.stderr) == (1, True)


@pytest.mark.conforms("tasks top", "tasks last-modified-file")
def test_processes_and_the_newest_file_are_shown(env: Env, running: Running) -> None:
    assert "python3 main.py" in env.cli("tasks", "top", running.id).stdout
    running.touch("newest.txt")
    done = env.cli("tasks", "last-modified-file", running.id)
    assert done.stdout.startswith("Most recent file: newest.txt\n"), done.stderr
