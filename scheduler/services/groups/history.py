"""The machine groups that a user has and had."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from scheduler.domain.group_status import ACTIVE
from scheduler.store.models import AttemptRow, GroupRow, MachineRow, ProjectRow, TaskRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class HistoryFilter:
    """Conditions on groups; None: any. Times are seconds since the epoch."""

    created_before: float | None = None
    created_after: float | None = None
    #: Groups that a task of this project was sent to.
    project: str | None = None
    non_active_only: bool = False
    #: The provider's name on the wire.
    provider_id: str | None = None


def groups_ever(
    session: Session, user_id: str, wanted: HistoryFilter, page: int, per_page: int
) -> Sequence[GroupRow]:
    """Return a page of a user's groups, newest first."""
    query = select(GroupRow).where(GroupRow.user_id == user_id)
    if wanted.created_before is not None:
        query = query.where(GroupRow.created_at < wanted.created_before)
    if wanted.created_after is not None:
        query = query.where(GroupRow.created_at > wanted.created_after)
    if wanted.non_active_only:
        query = query.where(GroupRow.status.not_in(ACTIVE))
    if wanted.provider_id is not None:
        query = query.where(GroupRow.wire_provider == wanted.provider_id)
    if wanted.project is not None:
        used = select(TaskRow.group_id).join(ProjectRow, ProjectRow.id == TaskRow.project_id)
        used = used.where(ProjectRow.user_id == user_id, ProjectRow.name == wanted.project)
        query = query.where(GroupRow.id.in_(used))
    query = query.order_by(GroupRow.created_at.desc(), GroupRow.id)
    return session.scalars(query.limit(per_page).offset((page - 1) * per_page)).all()


def machines_of_groups(
    session: Session, groups: Sequence[GroupRow]
) -> Mapping[str, list[MachineRow]]:
    """Return group id → its machines, by one query."""
    found: defaultdict[str, list[MachineRow]] = defaultdict(list)
    for machine in session.scalars(
        select(MachineRow).where(MachineRow.group_id.in_([g.id for g in groups]))
    ):
        found[machine.group_id].append(machine)
    return found


def task_seconds(session: Session, groups: Sequence[GroupRow], now: float) -> Mapping[str, float]:
    """Return group id → seconds for which tasks held its machines, by one query."""
    held = func.sum(func.coalesce(AttemptRow.ended_at, now) - AttemptRow.started_at)
    rows = session.execute(
        select(TaskRow.group_id, held)
        .join(AttemptRow, AttemptRow.task_id == TaskRow.id)
        .where(TaskRow.group_id.in_([g.id for g in groups]))
        .group_by(TaskRow.group_id)
    )
    return {group_id: float(seconds) for group_id, seconds in rows}
