"""A status is typed once."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from scripts.pages.import_graph import nodes
from simherd.contract.lifecycle import Status
from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Statuses whose values are words of their own elsewhere: a machine's or group's state, a
#: report's kind, a reply's status, an outcome for people.
OTHER_WORDS = {
    ("scheduler/domain/group_status.py", "started"),
    ("scheduler/domain/machine_status.py", "started"),
    ("simherd/contract/webrtc_channel.py", "success"),
    ("simherd/contract/reports.py", "started"),
    ("simherd/contract/transfers.py", "failed"),
    ("simherd/cli/up_view.py", "started"),
    ("simherd/machine_group.py", "started"),
    ("scheduler/api/serializers.py", "started"),
}


def literals(file: Path) -> Iterator[str]:
    for node in nodes(file):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_no_status_is_typed_outside_the_table() -> None:
    values = {s.value for s in Status}
    found = []
    for room in ("simherd", "scheduler", "executor"):
        for file in sorted((REPOSITORY / room).rglob("*.py")):
            name = file.relative_to(REPOSITORY).as_posix()
            if name == "simherd/contract/lifecycle.py":
                continue
            found += [(name, x) for x in literals(file) if x in values]
    assert sorted(set(found) - OTHER_WORDS) == []


def test_every_exception_is_still_needed() -> None:
    values = {s.value for s in Status}
    for name, word in OTHER_WORDS:
        if word in values:
            assert word in set(literals(REPOSITORY / name)), (name, word)
