"""How many machines each provider may have at one time, those of all users together.

The providers `local` and `docker` start machines on the scheduler's own host: more than it can hold
stops everybody's. Other providers cost money, or load the scheduler. A user's quotas are checked
beside this: see `quotas.py`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil
from sqlalchemy import func, select, text

from scheduler.domain.group_status import ENDING, UP
from scheduler.services.errors import QuotaExceeded
from scheduler.store.models import GroupRow, MachineRow
from simherd.contract import limits

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from scheduler.config import Settings

#: The providers whose machines are on the scheduler's host.
ON_HOST = ("local", "docker")
#: Any number: transactions that start machines take turns under it, on PostgreSQL.
_LOCK = 7_103_862


def host_cap() -> int:
    """Machines that this host can hold, by its cores and its memory."""
    by_cores = len(os.sched_getaffinity(0)) * limits.HOST_MACHINES_PER_CORE
    by_memory = int(psutil.virtual_memory().total // limits.HOST_MACHINE_BYTES)
    return max(limits.LEAST_HOST_MACHINES, min(by_cores, by_memory))


def cap_of(settings: Settings, provider: str) -> int | None:
    """Machines that a provider may have; None: as many as users are allowed."""
    if provider in settings.max_machines:
        return settings.max_machines[provider]
    return host_cap() if provider in ON_HOST else limits.DEFAULT_MAX_MACHINES.get(provider)


def most_machines(group: GroupRow) -> int:
    """The machines of a group at its largest."""
    return group.max_machines if group.is_elastic else group.num_machines


def check_cap(
    settings: Settings, session: Session, group: GroupRow, *, alone: bool = False
) -> None:
    """Refuse machines for which the group's provider has no room beside those of other groups.

    Two groups that are started at once are looked at one after the other.

    Args:
        settings: the scheduler's.
        session: in a transaction that writes.
        group: what is to be started, or resized.
        alone: whether to leave the other groups out: a group that is only registered takes nothing.

    Raises:
        QuotaExceeded: there is not enough room.
    """
    cap, machines = cap_of(settings, group.provider), most_machines(group)
    if cap is None:
        return
    bound = " on this host" if group.provider in ON_HOST else ""
    allowed = f"the provider {group.provider!r} may have {cap} machines{bound}, all users together"
    how_to_raise = "The server's operator can raise it with the setting SIMHERD_MAX_MACHINES."
    if machines > cap:
        raise QuotaExceeded(
            f"num_machines: {machines} asked for is too many: {allowed}. {how_to_raise}"
        )
    in_use = 0 if alone else _in_use(session, group)
    if in_use + machines > cap:
        raise QuotaExceeded(
            f"num_machines: {allowed}: {in_use} in use, {machines} more asked for. {how_to_raise}"
        )


def _in_use(session: Session, group: GroupRow) -> int:
    """The machines that the provider's other groups have or may grow to; those of groups that are
    shut down count until they are gone."""
    # SQLite has one writer at a time by itself.
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    others = session.scalars(
        select(GroupRow).where(
            GroupRow.provider == group.provider,
            GroupRow.status.in_(UP | ENDING),
            GroupRow.id != group.id,
        )
    ).all()
    counted = (
        select(MachineRow.group_id, func.count())
        .where(MachineRow.group_id.in_([g.id for g in others]), MachineRow.terminated_at.is_(None))
        .group_by(MachineRow.group_id)
    )
    there = {group_id: count for group_id, count in session.execute(counted)}
    return sum(
        max(most_machines(other) if other.status in UP else 0, there.get(other.id, 0))
        for other in others
    )
