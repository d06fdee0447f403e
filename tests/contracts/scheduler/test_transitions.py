"""The one guarded status change, on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from scheduler.store.models import RefusedChange, StatusChange
from scheduler.store.transitions import change_status
from simherd.contract.lifecycle import TABLE, TERMINAL, Status
from tests.support.builders import make_group, make_task

if TYPE_CHECKING:
    from scheduler.store.engine import Store

PAIRS = [(before, to) for before in Status for to in Status]


@pytest.fixture(scope="module")
def group_id(store: Store) -> str:
    with store.write() as session:
        return make_group(session).id


def test_exactly_the_tables_pairs_are_accepted(store: Store) -> None:
    """Seventeen statuses before, seventeen after."""
    wrong = []
    with store.write() as session:
        group = make_group(session)
        for before, to in PAIRS:
            task = make_task(session, group, status=before.value)
            accepted = change_status(session, task.id, to, attempt=1, at=5.0)
            session.refresh(task)
            if accepted != (to in TABLE[before].after) or task.status != (
                to if accepted else before
            ):
                wrong.append((before, to, accepted, task.status))
    assert wrong == []


def test_a_change_is_added_to_the_history_and_ends_the_entry_before(store: Store) -> None:
    with store.write() as session:
        task = make_task(session, make_group(session))
        assert change_status(session, task.id, Status.STARTED, attempt=1, at=50.0, machine_id="m")
        assert change_status(
            session, task.id, Status.EXECUTER_FAILED, attempt=1, at=60.0, description="broke"
        )
        session.flush()
        rows = session.scalars(
            select(StatusChange).where(StatusChange.task_id == task.id).order_by(StatusChange.id)
        ).all()
        session.refresh(task)
    assert [(r.status, r.ended_at, r.machine_id) for r in rows] == [
        ("submitted", 50.0, None),
        ("started", 60.0, "m"),
        ("executer-failed", 60.0, None),
    ]
    assert rows[-1].description == "broke"
    assert (task.end_time, task.machine_id) == (60.0, "m")


@pytest.mark.parametrize("attempt", [0, 2])
def test_another_attempt_changes_nothing_and_is_counted(store: Store, attempt: int) -> None:
    with store.write() as session:
        task = make_task(session, make_group(session), status=Status.STARTED.value)
        assert not change_status(
            session, task.id, Status.COMPUTATION_STARTED, attempt=attempt, at=1.0
        )
        session.flush()
        refused = session.scalar(
            select(func.count()).select_from(RefusedChange).where(RefusedChange.task_id == task.id)
        )
        entries = session.scalar(
            select(func.count()).select_from(StatusChange).where(StatusChange.task_id == task.id)
        )
        session.refresh(task)
    assert (task.status, refused, entries) == ("started", 1, 1)


def test_the_next_attempt_fences_the_one_before(store: Store) -> None:
    with store.write() as session:
        task = make_task(session, make_group(session), status=Status.STARTED.value, last_event=7)
        assert change_status(session, task.id, Status.SUBMITTED, attempt=1, at=1.0, next_attempt=2)
        session.refresh(task)
        assert (task.attempt, task.last_event) == (2, 0)
        assert not change_status(session, task.id, Status.STARTED, attempt=1, at=2.0)
        assert change_status(session, task.id, Status.STARTED, attempt=2, at=2.0)


def test_a_terminal_status_has_an_end(store: Store) -> None:
    with store.write() as session:
        task = make_task(session, make_group(session), status=Status.PENDING_KILL.value)
        assert change_status(session, task.id, Status.KILLED, attempt=1, at=9.0)
        session.refresh(task)
    assert task.status in TERMINAL
    assert task.end_time == 9.0
