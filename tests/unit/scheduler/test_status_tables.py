"""The tables of machine and group statuses, and that nothing goes round them."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

import pytest

from scheduler.domain.group_status import (
    ACCEPTING,
    ACTIVE,
    ENDING,
    GROUP_TABLE,
    UP,
    GroupStatus,
)
from scheduler.domain.machine_status import MACHINE_TABLE, MachineStatus
from scheduler.domain.status_table import statuses_before
from scripts.pages.import_graph import nodes
from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TABLES: list[Any] = [
    pytest.param(MachineStatus, MACHINE_TABLE, MachineStatus.UP, id="machine"),
    pytest.param(GroupStatus, GROUP_TABLE, GroupStatus.REGISTERED, id="group"),
]
#: Columns of machines and groups that only `scheduler/store/transitions.py` may change.
GUARDED = {"terminated_at", "drain_reason", "shutting_down_at", "end_cause"}
UPDATE = re.compile(r"update\((MachineRow|GroupRow)\)")
#: They set `status` of a task's operations, and of a task's row that is shown and never stored.
OTHERS = ("transitions.py", "record_report.py", "follow.py")


@pytest.mark.parametrize(("statuses", "table", "first"), TABLES)
def test_every_status_has_a_row_and_can_be_reached(statuses: Any, table: Any, first: Any) -> None:
    assert set(table) == set(statuses)
    reached, queue = {first}, [first]
    while queue:
        following = table[queue.pop()] - reached
        reached |= following
        queue += following
    assert reached == set(statuses)


@pytest.mark.parametrize(("statuses", "table", "first"), TABLES)
def test_only_terminated_is_terminal_and_every_status_leads_there(
    statuses: Any, table: Any, first: Any
) -> None:
    terminal = {status for status, after in table.items() if not after}
    assert {status.value for status in terminal} == {"terminated"}
    ends = set(terminal)
    while True:
        before = set().union(*(statuses_before(table, status) for status in ends)) - ends
        if not before:
            break
        ends |= before
    assert ends == set(statuses)
    assert first not in terminal


@pytest.mark.parametrize(("statuses", "table", "first"), TABLES)
def test_a_status_does_not_follow_itself(statuses: Any, table: Any, first: Any) -> None:
    assert [s for s in statuses if s in table[s]] == []


@pytest.mark.parametrize("status", GroupStatus)
def test_the_kinds_of_group_statuses_agree_with_the_table(status: GroupStatus) -> None:
    after = GROUP_TABLE[status]
    assert (status in ENDING) == (GroupStatus.TERMINATED in after)
    assert (status in ACTIVE) == bool(after)
    # A group can be terminated from every status in which it is not yet on its way out.
    assert (GroupStatus.SHUTTING_DOWN in after) == (status in ACTIVE - ENDING)
    assert not (status in UP and status not in ACCEPTING)


def test_a_terminated_machine_never_comes_back() -> None:
    assert not MACHINE_TABLE[MachineStatus.DOWN]
    assert statuses_before(MACHINE_TABLE, MachineStatus.UP) == frozenset()


def _direct_changes(file: Path) -> Iterator[str]:
    """Assignments of guarded columns, and `update(MachineRow | GroupRow)` that names one."""
    text = file.read_text()
    if not re.search("MachineRow|GroupRow|" + "|".join(GUARDED), text):
        return
    for node in nodes(file):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                for part in ast.walk(target):
                    if isinstance(part, ast.Attribute) and part.attr in GUARDED | {"status"}:
                        yield f"{file.name}:{node.lineno} {ast.unparse(part)}"
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "values"
            and UPDATE.search(ast.unparse(node.func))
        ):
            for keyword in node.keywords:
                if keyword.arg in GUARDED | {"status"}:
                    yield f"{file.name}:{node.lineno} {keyword.arg}"


def test_no_other_module_changes_a_status_or_what_belongs_to_it() -> None:
    changes = [
        change
        for file in sorted((REPOSITORY / "scheduler").rglob("*.py"))
        if file.name not in OTHERS
        for change in _direct_changes(file)
    ]
    assert changes == []
