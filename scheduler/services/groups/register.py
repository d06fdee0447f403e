"""Register, start and resize machine groups."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from scheduler.domain.group_status import ACTIVE, MPI, UP, GroupStatus
from scheduler.domain.machine_status import MachineStatus
from scheduler.services.accounts.provider_access import check_provider_on, choose_provider
from scheduler.services.billing.prices import priced_machine_types
from scheduler.services.billing.quotas import check_alone, check_start
from scheduler.services.errors import Conflict, Forbidden, Invalid, ResourceNotFound
from scheduler.services.groups.access import check_name, may_use
from scheduler.services.groups.sharing import share_with
from scheduler.services.ids import new_group_name, new_uuid
from scheduler.services.machines.caps import check_cap
from scheduler.services.machines.provision import machines_of
from scheduler.store.machine_state import MACHINE_UP
from scheduler.store.models import GroupRow, User
from scheduler.store.transitions import change_group, change_machine
from simherd.contract import limits
from simherd.contract.policy import Policy

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from scheduler.catalogue.tables import MachineType
    from scheduler.wiring import Runtime

#: Machine groups that a user may have registered, started or not.
MAX_GROUPS = 500

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GroupRequest:
    """The group that a user wants to register."""

    machine_type: str
    wire_provider: str
    num_machines: int = 1
    min_machines: int | None = None
    max_machines: int | None = None
    is_elastic: bool = False
    spot: bool = True
    disk_size_gb: int = 10
    threads_per_core: int = 2
    zone: str | None = None
    name: str | None = None
    group_type: str = "standard"
    max_idle_s: float | None = None
    auto_terminate_at: float | None = None
    reconnect_s: float = limits.RECONNECT_WINDOW_S
    #: Which provider launches the machines; default: what the operator's table says for
    #: `wire_provider`.
    provider: str | None = None
    shared: bool = False
    on_demand_fallback: bool = False
    policy: Policy = field(default_factory=Policy)


def register_group(
    rt: Runtime, user_id: str, request: GroupRequest, *, only_check: bool = False
) -> GroupRow:
    """Store a new machine group; nothing runs until it is started.

    `only_check`: store nothing, and refuse also what could not be started now.

    Raises:
        Invalid: an unknown machine type or provider, or a number out of bounds.
        Conflict: the name is taken by a group that still exists, or is shared with the user.
        Forbidden: the name is reserved, or a user who is not an operator shares it with everyone.
        QuotaExceeded: it alone is more than the user may have, or than the provider can hold.
    """
    with rt.store.read() as session:
        kind = priced_machine_types(session, rt.catalogue).get(request.machine_type)
        user = session.get_one(User, user_id)
    if kind is None:
        known = ", ".join(sorted(rt.catalogue.machine_types))
        raise Invalid(f"machine_type: {request.machine_type!r} is not known. There are: {known}.")
    provider = choose_provider(rt, user, request.provider, request.wire_provider)
    if request.shared and not user.is_operator:
        raise Forbidden(
            "shared: only operators share a machine group with everyone. Register it without, and "
            "offer it to users (`simherd resources share NAME USERNAME`), or ask an operator."
        )
    _check_policy(request.policy, kind)
    if request.group_type == MPI:
        _check_mpi(rt, request, provider)
    smallest, largest = _sizes(request)
    now = time.time()
    group = GroupRow(
        id=new_uuid(),
        user_id=user_id,
        name=request.name or new_group_name(),
        wire_provider=request.wire_provider,
        provider=provider,
        machine_type=kind.name,
        zone=request.zone or kind.zone,
        group_type=request.group_type,
        is_elastic=request.is_elastic,
        spot=request.spot,
        num_machines=smallest if request.is_elastic else request.num_machines,
        min_machines=smallest,
        max_machines=largest,
        disk_size_gb=request.disk_size_gb,
        threads_per_core=request.threads_per_core,
        vcpus=kind.vcpus,
        memory_bytes=kind.memory_gb * 1024**3,
        price_hour=kind.spot if request.spot else kind.on_demand,
        status=GroupStatus.REGISTERED.value,
        max_idle_s=request.max_idle_s,
        auto_terminate_at=request.auto_terminate_at,
        reconnect_s=request.reconnect_s,
        policy=asdict(request.policy),
        shared=False,
        on_demand_fallback=request.on_demand_fallback,
        redis_server=_emptiest_server(rt),
        created_at=now,
    )
    with rt.store.write() as session:
        taken = session.scalar(
            select(GroupRow).where(GroupRow.user_id == user_id, GroupRow.name == group.name)
        )
        if taken is not None and taken.status != GroupStatus.TERMINATED:
            raise Conflict(f"name: you have a machine group {group.name!r} already.")
        count = select(func.count()).where(GroupRow.user_id == user_id, GroupRow.status.in_(ACTIVE))
        if (session.scalar(count) or 0) >= MAX_GROUPS:
            raise Conflict(f"You have {MAX_GROUPS} machine groups. Terminate some first.")
        check_name(rt, session, user, group.name)
        check_alone(rt, session, group)
        check_cap(rt.settings, session, group, alone=True)
        if only_check:
            check_start(rt, session, group)
            check_cap(rt.settings, session, group)
            return group
        if taken is not None:
            # Names are for people: the old group keeps its id, and the new one gets its name.
            taken.name = f"{taken.name}~{taken.id[:8]}"
            session.flush()
        session.add(group)
        if request.shared:
            session.flush()
            share_with(session, user.username, group.id, (), everyone=True)
    return group


def _check_policy(policy: Policy, kind: MachineType) -> None:
    """Refuse a container's limit that is more than the machine has. Raises Invalid."""
    for name, value, most in (
        ("memory_bytes", policy.memory_bytes, kind.memory_gb * 1024**3),
        ("cpus", policy.cpus, kind.vcpus),
    ):
        if value > most:
            raise Invalid(
                f"policy.{name}: {value} is more than the {most} of a machine of the type "
                f"{kind.name!r}. Give less, or 0 for all that the machine has."
            )


def _emptiest_server(rt: Runtime) -> str:
    """Return the Redis server with the fewest groups, of those that take new ones."""
    open_servers = rt.settings.open_servers
    if len(open_servers) == 1:
        return open_servers[0]
    query = (
        select(GroupRow.redis_server, func.count())
        .where(GroupRow.status != GroupStatus.TERMINATED.value)
        .group_by(GroupRow.redis_server)
    )
    with rt.store.read() as session:
        groups = {name: count for name, count in session.execute(query)}
    return min(open_servers, key=lambda name: groups.get(name, 0))


def unnamed_servers(rt: Runtime) -> list[str]:
    """Return the Redis servers of active groups that the settings do not name."""
    query = select(GroupRow.redis_server).where(GroupRow.status.in_(ACTIVE)).distinct()
    with rt.store.read() as session:
        return sorted(set(session.scalars(query)) - set(rt.settings.redis_urls))


def _check_mpi(rt: Runtime, request: GroupRequest, provider: str) -> None:
    if request.is_elastic:
        raise Invalid("is_elastic: the machines of an MPI group work together; its size is fixed.")
    if request.num_machines > 1 and not getattr(rt.providers[provider], "one_engine", False):
        raise Invalid(
            f"type: an MPI group of {request.num_machines} machines needs machines that run "
            f"containers on one Docker engine, and those of the provider {provider!r} do not. "
            "Use one machine, or a provider such as 'docker'."
        )


def _sizes(request: GroupRequest) -> tuple[int, int]:
    """Return the least and the most machines."""
    smallest = request.num_machines if request.min_machines is None else request.min_machines
    largest = request.num_machines if request.max_machines is None else request.max_machines
    if not request.is_elastic:
        return request.num_machines, request.num_machines
    if largest < max(1, smallest):
        raise Invalid(f"max_vms: {largest} is less than min_vms, {smallest}, or than 1.")
    return smallest, largest


def owned_group(rt: Runtime, user_id: str, group_id: str) -> GroupRow:
    """Return a user's machine group by id.

    Raises ResourceNotFound: there is none, or it is another user's; if it is shared with this user,
    the message names the owner.
    """
    with rt.store.read() as session:
        group = session.get(GroupRow, group_id)
        if group is not None and group.user_id != user_id and may_use(session, group, user_id):
            raise ResourceNotFound(_not_owned(session, group))
    if group is None or group.user_id != user_id:
        raise ResourceNotFound(f"machine_group_id: there is no machine group {group_id!r}.")
    return group


def _not_owned(session: Session, group: GroupRow) -> str:
    owner = session.get_one(User, group.user_id).username
    sentence = (
        f"machine_group_id: the machine group {group.name!r} is {owner}'s and shared with you; "
        "only its owner starts and ends it."
    )
    if group.shared:
        return sentence
    return f"{sentence} `simherd resources decline {group.name}` ends your use of it."


def start_group(rt: Runtime, group: GroupRow, *, by_settings: bool = False) -> None:
    """Mark a group as starting; `scale_group` launches the machines.

    `group`: a registered group; `by_settings`: whether the operator's settings start it: then the
    user's quotas do not apply, since nobody could raise them before the server runs.

    Raises:
        Conflict: it is being shut down or is terminated, or its provider is off.
        QuotaExceeded: it is more than the user's quotas leave, or than the provider can hold.
    """
    if group.status in UP:
        return
    check_provider_on(rt, group)
    with rt.store.write() as session:
        if not by_settings:
            check_start(rt, session, group)
        check_cap(rt.settings, session, group)
        is_starting = change_group(
            session,
            group.id,
            GroupStatus.STARTING,
            at=time.time(),
            status_detail=None,
            refusals=0,
            hard_refusals=0,
            retry_at=None,
        )
    if not is_starting:
        raise Conflict(f"Machine group {group.name!r} is {group.status}. Make a new one.")
    rt.queue.announce_group(group.id)


def resize_group(rt: Runtime, group_id: str, num_machines: int) -> None:
    """Change the size of a group of which no machine runs.
    Raises QuotaExceeded: it is more than the provider can hold."""
    with rt.store.write() as session:
        group = session.scalars(select(GroupRow).where(GroupRow.id == group_id)).one()
        group.num_machines = group.min_machines = group.max_machines = num_machines
        check_cap(rt.settings, session, group)
        for machine in machines_of(session, group_id, MACHINE_UP)[num_machines:]:
            change_machine(session, machine.id, MachineStatus.DOWN, at=time.time())
