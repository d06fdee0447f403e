"""Machine groups with their machines, as the API shows them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis
from sqlalchemy import select

from scheduler.domain.group_status import ACTIVE
from scheduler.services.groups.access import named_group, usable_by
from scheduler.services.groups.admin import GroupState, group_state
from scheduler.services.groups.history import (
    HistoryFilter,
    groups_ever,
    machines_of_groups,
    task_seconds,
)
from scheduler.services.groups.sharing import ShareOffer, shares_of
from scheduler.store.models import GroupRow, MachineRow, TaskRow
from simherd.contract.lifecycle import HELD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from scheduler.wiring import Runtime


@dataclass(frozen=True)
class GroupView:
    """A machine group with its machines."""

    group: GroupRow
    machines: Sequence[MachineRow]
    #: Machine id → the id of the task that it runs.
    tasks: Mapping[str, str]
    #: Machine id → what the machine reports about itself.
    facts: Mapping[str, Mapping[str, Any]]


def usable_groups(rt: Runtime, user_id: str) -> list[GroupView]:
    """Return the active groups that a user may send tasks to, oldest first."""
    with rt.store.read() as session:
        groups = session.scalars(
            select(GroupRow)
            .where(usable_by(user_id), GroupRow.status.in_(ACTIVE))
            .order_by(GroupRow.created_at)
        ).all()
        return [_view(rt, session, group) for group in groups]


def usable_group_named(rt: Runtime, user_id: str, name: str) -> GroupView:
    """Return the group that `name` stands for. Raises ResourceNotFound."""
    with rt.store.read() as session:
        return _view(rt, session, named_group(session, user_id, name))


def _view(rt: Runtime, session: Session, group: GroupRow) -> GroupView:
    machines = _machines(session, group)
    rows = session.execute(
        select(TaskRow.machine_id, TaskRow.id).where(
            TaskRow.group_id == group.id, TaskRow.status.in_([s.value for s in HELD])
        )
    )
    try:
        facts = rt.queue.reader.facts(group.id, [m.id for m in machines])
    except redis.RedisError:
        facts = {}  # They are only shown; everything else about the group is in SQL.
    return GroupView(group, machines, {str(machine): task for machine, task in rows}, facts)


def _machines(session: Session, group: GroupRow) -> Sequence[MachineRow]:
    query = select(MachineRow).where(MachineRow.group_id == group.id)
    return session.scalars(query.order_by(MachineRow.created_at)).all()


def past_groups(
    session: Session, user_id: str, wanted: HistoryFilter, page: int, per_page: int
) -> list[tuple[GroupRow, Sequence[MachineRow], float]]:
    """Return a page of a user's groups, newest first.
    Each with its machines and the seconds for which tasks held them."""
    groups = groups_ever(session, user_id, wanted, page, per_page)
    machines = machines_of_groups(session, groups)
    held = task_seconds(session, groups, time.time())
    return [(group, machines[group.id], held.get(group.id, 0.0)) for group in groups]


def group_for_operator(
    session: Session, named: str, owner: str | None
) -> tuple[GroupState, Sequence[MachineRow], list[ShareOffer]]:
    """Return a group by id or name, its machines and its shares. Raises ResourceNotFound, Conflict.
    `owner`: the owner's user name, needed where several users have a group of this name."""
    state = group_state(session, named, owner)
    return state, _machines(session, state.group), shares_of(session, state.group.id)
