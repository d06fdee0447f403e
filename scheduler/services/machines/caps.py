"""The number of machines that each provider may have at one time, all users together.

The providers `local` and `docker` start machines on the scheduler's own host: more than it can hold
stop those of all users. Other providers cost money, or load the scheduler. A user's quotas are
checked as well: see `quotas.py`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil
from sqlalchemy import func, select, text

from scheduler.domain.group_status import ENDING, UP
from scheduler.services.errors import QuotaExceeded
from scheduler.store.models import GroupRow, MachineRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from scheduler.config import Settings

#: Machines of the providers `local` and `docker` for each core of the host, and bytes of its memory
#: for each. An agent without work takes some 55 MiB; simulations share the cores, so that more
#: machines than this bring nothing but switches between them.
HOST_MACHINES_PER_CORE = 8
HOST_MACHINE_BYTES = 256 * 1024**2
#: Machines of these providers that every host may have, however small it is: what the tests and the
#: examples need.
LEAST_HOST_MACHINES = 16
#: Machines of all users together that other providers may have. EC2: launches and terminations of
#: so many stay within the rates of its API (token buckets of 100 requests and more). External ones
#: are started by hand: the most that one group may have.
DEFAULT_MAX_MACHINES = {"ec2": 100, "external": 1000}

#: The providers whose machines are on the scheduler's host.
ON_HOST = ("local", "docker")
#: An arbitrary number for the advisory lock of PostgreSQL that such transactions take.
_LOCK = 7_103_862


def host_cap() -> int:
    """Return how many machines this host can hold, by its cores and its memory."""
    by_cores = len(os.sched_getaffinity(0)) * HOST_MACHINES_PER_CORE
    by_memory = int(psutil.virtual_memory().total // HOST_MACHINE_BYTES)
    return max(LEAST_HOST_MACHINES, min(by_cores, by_memory))


def cap_of(settings: Settings, provider: str) -> int | None:
    """Return how many machines a provider may have; None: as many as the users' quotas allow."""
    if provider in settings.max_machines:
        return settings.max_machines[provider]
    return host_cap() if provider in ON_HOST else DEFAULT_MAX_MACHINES.get(provider)


def most_machines(group: GroupRow) -> int:
    """Return the number of machines of a group at its largest."""
    return group.max_machines if group.is_elastic else group.num_machines


def check_cap(
    settings: Settings, session: Session, group: GroupRow, *, alone: bool = False
) -> None:
    """Refuse machines for which the group's provider has no room beside those of other groups.

    Two groups that are started at once are checked one after the other.

    `alone`: whether to ignore the other groups, since a registered group has no machines.

    Raises QuotaExceeded: there is not enough room.
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
    """Return how many machines the provider's other groups have or may grow to.
    Those of groups that are being shut down count until they are gone."""
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
    machines = {group_id: count for group_id, count in session.execute(counted)}
    return sum(
        max(most_machines(other) if other.status in UP else 0, machines.get(other.id, 0))
        for other in others
    )
