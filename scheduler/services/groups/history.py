"""The machine groups that a user has had."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from scheduler.domain.group_status import ACTIVE
from scheduler.store.models import AttemptRow, Machine, MachineGroup, Project, Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class HistoryFilter:
    """Which groups are wanted; None: any. Times are seconds since the epoch."""

    created_before: float | None = None
    created_after: float | None = None
    #: Groups that a task of this project was sent to.
    project: str | None = None
    non_active_only: bool = False
    #: The provider's name on the wire.
    provider_id: str | None = None


def groups_ever(
    session: Session, user_id: str, wanted: HistoryFilter, page: int, per_page: int
) -> Sequence[MachineGroup]:
    """A page of a user's groups, newest first."""
    found = select(MachineGroup).where(MachineGroup.user_id == user_id)
    if wanted.created_before is not None:
        found = found.where(MachineGroup.created_at < wanted.created_before)
    if wanted.created_after is not None:
        found = found.where(MachineGroup.created_at > wanted.created_after)
    if wanted.non_active_only:
        found = found.where(MachineGroup.status.not_in(ACTIVE))
    if wanted.provider_id is not None:
        found = found.where(MachineGroup.wire_provider == wanted.provider_id)
    if wanted.project is not None:
        used = select(Task.group_id).join(Project, Project.id == Task.project_id)
        used = used.where(Project.user_id == user_id, Project.name == wanted.project)
        found = found.where(MachineGroup.id.in_(used))
    found = found.order_by(MachineGroup.created_at.desc(), MachineGroup.id)
    return session.scalars(found.limit(per_page).offset((page - 1) * per_page)).all()


def machines_of_groups(
    session: Session, groups: Sequence[MachineGroup]
) -> Mapping[str, list[Machine]]:
    """Group id → its machines, by one query."""
    found: defaultdict[str, list[Machine]] = defaultdict(list)
    for machine in session.scalars(
        select(Machine).where(Machine.group_id.in_([g.id for g in groups]))
    ):
        found[machine.group_id].append(machine)
    return found


def task_seconds(
    session: Session, groups: Sequence[MachineGroup], now: float
) -> Mapping[str, float]:
    """Group id → for how long tasks held its machines, by one query."""
    held = func.sum(func.coalesce(AttemptRow.ended_at, now) - AttemptRow.started_at)
    rows = session.execute(
        select(Task.group_id, held)
        .join(AttemptRow, AttemptRow.task_id == Task.id)
        .where(Task.group_id.in_([g.id for g in groups]))
        .group_by(Task.group_id)
    )
    return {group_id: float(seconds) for group_id, seconds in rows}
