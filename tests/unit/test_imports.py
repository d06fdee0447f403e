"""Who may import whom, and what an import costs."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

import simherd
from tests.conftest import REPOSITORY


def test_only_the_queue_room_knows_the_keys_that_machines_write() -> None:
    """Everything else reads them through `scheduler/queue/group_reader.py`."""
    knowing = {
        file.parent.name
        for file in (REPOSITORY / "scheduler").rglob("*.py")
        if "GroupKeys" in file.read_text()
    }
    assert knowing == {"queue"}


def test_the_import_rules_hold() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_decisions_import_nothing_but_the_contract() -> None:
    for file in (REPOSITORY / "scheduler/domain").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                is_standard = name.partition(".")[0] in sys.stdlib_module_names
                own = name.startswith(("scheduler.domain", "simherd.contract"))
                assert is_standard or own, (file.name, name)


@pytest.mark.parametrize("module", ["simherd", "simherd.contract.lifecycle"])
def test_an_import_loads_only_the_standard_library(module: str) -> None:
    script = (
        f"import sys; before = set(sys.modules); import {module}\n"
        "new = {m.partition('.')[0] for m in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "['simherd']"


def test_every_exported_name_is_there() -> None:
    assert simherd.__all__ == sorted(simherd.__all__)
    for name in simherd.__all__:
        assert getattr(simherd, name) is not None
    assert dir(simherd) == simherd.__all__
    with pytest.raises(AttributeError, match="nonsense"):
        _ = simherd.nonsense
