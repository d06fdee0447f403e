"""The operators' view of the machine groups of all users."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, or_, select

from scheduler.domain.group_status import ACTIVE, UP
from scheduler.domain.machine_status import MachineStatus
from scheduler.services.accounts.audit import add_audit_entry
from scheduler.services.billing.costs import cost_of_machines
from scheduler.services.errors import Conflict, ResourceNotFound
from scheduler.services.groups.terminate import request_termination
from scheduler.services.machines.provision import machines_of, retire
from scheduler.store.machine_state import MACHINE_DRAINED, MACHINE_UP
from scheduler.store.models import GroupRow, GroupShare, MachineRow, TaskRow, User
from scheduler.store.transitions import change_machine
from simherd.contract.cause import Cause
from simherd.contract.lifecycle import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from scheduler.wiring import Runtime

_REMOVED = "An operator has removed it."
_DRAINED = "An operator has drained it."


@dataclass(frozen=True)
class GroupState:
    """A group as operators see it."""

    group: GroupRow
    username: str
    is_owner_operator: bool
    #: Users with whom it is shared, without offers that wait for an answer.
    shares: int
    #: Machines that are not terminated, and tasks that have not ended.
    machines: int
    tasks: int
    #: What its machines have cost so far, US$.
    cost: float


def group_states(session: Session, *, ended: bool = False) -> list[GroupState]:
    """Return every user's groups, the oldest first; `ended`: including terminated ones."""
    query = select(GroupRow, User).join(User, User.id == GroupRow.user_id)
    if not ended:
        query = query.where(GroupRow.status.in_(ACTIVE))
    found = session.execute(query.order_by(GroupRow.created_at))
    return _states(session, [(group, user) for group, user in found])


def group_state(session: Session, named: str, owner: str | None = None) -> GroupState:
    """Return a group by its id or by an unambiguous name; `owner`: only one of this user.
    Raises ResourceNotFound, Conflict."""
    query = (
        select(GroupRow, User)
        .join(User, User.id == GroupRow.user_id)
        .where(or_(GroupRow.id == named, GroupRow.name == named))
    )
    if owner is not None:
        query = query.where(User.username == owner)
    rows = session.execute(query).all()
    if not rows:
        raise ResourceNotFound(
            f"group: there is no machine group {named!r}. `simherd admin groups list`."
        )
    if len(rows) > 1:
        owners = ", ".join(f"{group.id} of {user.username}" for group, user in rows)
        raise Conflict(f"group: {named!r} is the name of several: {owners}. Give the id.")
    return _states(session, [(rows[0][0], rows[0][1])])[0]


def _states(session: Session, found: Sequence[tuple[GroupRow, User]]) -> list[GroupState]:
    now, ids = time.time(), [group.id for group, _ in found]
    cost = (
        select(MachineRow.group_id, cost_of_machines(now, (0.0, now)))
        .join(GroupRow, GroupRow.id == MachineRow.group_id)
        .where(MachineRow.group_id.in_(ids))
        .group_by(MachineRow.group_id)
    )
    there = (
        select(MachineRow.group_id, func.count())
        .where(
            MachineRow.group_id.in_(ids),
            MachineRow.status.in_([MACHINE_UP, MACHINE_DRAINED]),
            MachineRow.terminated_at.is_(None),
        )
        .group_by(MachineRow.group_id)
    )
    going_on = (
        select(TaskRow.group_id, func.count())
        .where(TaskRow.group_id.in_(ids), TaskRow.status.not_in([s.value for s in TERMINAL]))
        .group_by(TaskRow.group_id)
    )
    shared = (
        select(GroupShare.group_id, func.count())
        .where(GroupShare.group_id.in_(ids), GroupShare.accepted_at.is_not(None))
        .group_by(GroupShare.group_id)
    )
    costs, machines, tasks, shares = (
        {group_id: value for group_id, value in session.execute(query)}
        for query in (cost, there, going_on, shared)
    )
    return [
        GroupState(
            g,
            u.username,
            u.is_operator,
            shares.get(g.id, 0),
            machines.get(g.id, 0),
            tasks.get(g.id, 0),
            float(costs.get(g.id, 0.0)),
        )
        for g, u in found
    ]


def terminate_group(rt: Runtime, actor: str, named: str) -> GroupState:
    """Terminate a group: its tasks end, its machines stop.

    Raises ResourceNotFound, Conflict: there is no such group, several have the name, or it is being
    terminated.
    """
    with rt.store.read() as session:
        state = group_state(session, named)
    request_termination(rt, state.group, Cause.GROUP_TERMINATED)
    with rt.store.write() as session:
        add_audit_entry(session, actor, "group_terminate", state.group.name, group=state.group.id)
    rt.send_job("shut_down_group", state.group.id)
    with rt.store.read() as session:
        return group_state(session, state.group.id)


def remove_machine(rt: Runtime, actor: str, named: str, machine: str) -> MachineRow:
    """Revoke a machine's credentials and terminate it; the attempts that it holds are lost.

    For a machine that is not trusted any more. A provider that launches machines replaces it.

    Raises ResourceNotFound, Conflict: there is no such group or machine, or several have the name.
    """
    with rt.store.write() as session:
        group = group_state(session, named).group
        found = session.scalar(
            select(MachineRow).where(
                MachineRow.group_id == group.id,
                MachineRow.status.in_([MACHINE_UP, MACHINE_DRAINED]),
                or_(MachineRow.id == machine, MachineRow.name == machine),
            )
        )
        if found is None:
            raise ResourceNotFound(
                f"machine: group {group.name!r} has no machine {machine!r} that is there. "
                f"`simherd admin groups show {group.name}` lists them."
            )
        add_audit_entry(session, actor, "machine_remove", found.id, group=group.id, name=found.name)
    retire(rt, group, found, _REMOVED)
    return found


def drain_group(rt: Runtime, actor: str, named: str) -> int:
    """Drain a group's machines: they end what they have, and others replace them.

    Returns how many there are.

    Raises ResourceNotFound, Conflict: there is no such group, several have the name, it is not up,
    or its machines are started by hand, so that none would replace them.
    """
    with rt.store.write() as session:
        group = group_state(session, named).group
        if group.status not in UP:
            raise Conflict(f"group: {group.name!r} is {group.status}: there is nothing to drain.")
        if rt.providers[group.provider].by_hand:
            raise Conflict(
                f"group: the machines of {group.name!r} are started by hand. Stop their agents "
                "with SIGTERM: they end what they have, and take nothing more."
            )
        machines = machines_of(session, group.id, MACHINE_UP)
        for machine in machines:
            change_machine(
                session, machine.id, MachineStatus.DRAINED, at=time.time(), drain_reason=_DRAINED
            )
        add_audit_entry(
            session, actor, "group_drain", group.name, group=group.id, machines=len(machines)
        )
    # The order may be lost with Redis: the sweep sends it again.
    for machine in machines:
        rt.queue.drain(group.id, machine.id)
    return len(machines)
