"""The guarded changes of machines and machine groups, and what is shown, on both databases."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from scheduler.domain.group_status import GROUP_TABLE, GroupStatus
from scheduler.domain.machine_status import MACHINE_TABLE, MachineStatus
from scheduler.services.ids import new_uuid
from scheduler.store.machine_state import SHOWN_STATES, shown_state, shown_state_column
from scheduler.store.models import MachineRow
from scheduler.store.transitions import change_group, change_machine
from simherd.contract.machines import SUSPECT_S
from tests.support.builders import make_group

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from scheduler.store.engine import Store
    from scheduler.store.models import GroupRow

NOW = 1_800_000_000.0


def make_machine(session: Session, group: GroupRow, **fields: Any) -> MachineRow:
    machine = MachineRow(
        **{"id": new_uuid(), "group_id": group.id, "name": "m", "status": "started", "handle": {}}
        | {"created_at": 1.0}
        | fields
    )
    session.add(machine)
    session.flush()
    return machine


def test_exactly_the_machine_tables_pairs_are_accepted(store: Store) -> None:
    wrong = []
    with store.write() as session:
        group = make_group(session)
        for before, to in itertools.product(MachineStatus, MachineStatus):
            machine = make_machine(session, group, status=before.value)
            accepted = change_machine(session, machine.id, to, at=5.0)
            session.refresh(machine)
            ended = 5.0 if accepted and to is MachineStatus.DOWN else None
            expected = (to in MACHINE_TABLE[before], to if accepted else before, ended)
            if (accepted, machine.status, machine.terminated_at) != expected:
                wrong.append((before, to, accepted, machine.status))
    assert wrong == []


def test_exactly_the_group_tables_pairs_are_accepted(store: Store) -> None:
    wrong = []
    with store.write() as session:
        for before, to in itertools.product(GroupStatus, GroupStatus):
            group = make_group(session, status=before.value)
            accepted = change_group(session, group.id, to, at=5.0)
            session.refresh(group)
            if accepted != (to in GROUP_TABLE[before]) or group.status != (
                to if accepted else before
            ):
                wrong.append((before, to, accepted, group.status))
    assert wrong == []


@pytest.mark.parametrize(
    ("before", "to", "column"),
    [
        ("start_failed", GroupStatus.STARTING, "started_at"),
        ("started", GroupStatus.SHUTTING_DOWN, "shutting_down_at"),
        ("shutdown_failed", GroupStatus.TERMINATED, "terminated_at"),
    ],
)
def test_the_time_of_a_groups_status_is_stored_with_it(
    store: Store, before: str, to: GroupStatus, column: str
) -> None:
    with store.write() as session:
        group = make_group(session, status=before)
        assert change_group(session, group.id, to, at=7.0, status_detail="why")
        session.refresh(group)
    assert (getattr(group, column), group.status_detail) == (7.0, "why")


def test_a_refused_change_keeps_the_time_and_the_reason(store: Store) -> None:
    with store.write() as session:
        machine = make_machine(session, make_group(session))
        down = MachineStatus.DOWN
        assert change_machine(session, machine.id, down, at=5.0, drain_reason="It is gone.")
        assert not change_machine(session, machine.id, down, at=9.0, drain_reason="It is silent.")
        assert not change_machine(session, "no such machine", down, at=9.0)
        session.refresh(machine)
    assert (machine.terminated_at, machine.drain_reason) == (5.0, "It is gone.")


def test_what_is_shown_is_one_rule_in_python_and_in_sql(store: Store) -> None:
    """Every status, with and without each of the times that the rule reads."""
    times = (None, NOW - SUSPECT_S - 1, NOW - SUSPECT_S, NOW - 1)
    with store.write() as session:
        group = make_group(session)
        for status, launched, seen, reclaim, ended in itertools.product(
            MachineStatus, times, times, (None, NOW + 60), (None, NOW)
        ):
            session.add(
                MachineRow(
                    id=new_uuid(),
                    group_id=group.id,
                    name="m",
                    status=status.value,
                    handle={},
                    created_at=1.0,
                    launched_at=launched,
                    last_seen_at=seen,
                    reclaim_at=reclaim,
                    terminated_at=ended,
                )
            )
        session.flush()
        rows = session.execute(
            select(MachineRow, shown_state_column(NOW)).where(MachineRow.group_id == group.id)
        ).all()
    assert len(rows) == len(MachineStatus) * len(times) ** 2 * 4
    assert [(m.id, state) for m, state in rows] == [(m.id, shown_state(m, NOW)) for m, _ in rows]
    assert {state for _, state in rows} == {*SHOWN_STATES, MachineStatus.DOWN}
