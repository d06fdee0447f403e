"""Machine groups: register, start, terminate, and keep at their size."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from scheduler.services.attempts import close_attempt
from scheduler.services.errors import Conflict, Invalid, NotFound
from scheduler.services.gangs import MPI
from scheduler.services.group_states import ACCEPTING, ENDING, UP, GroupStatus
from scheduler.services.ids import new_group_name, new_uuid
from scheduler.services.machine_access import revoke
from scheduler.services.machine_states import MACHINE_DOWN, MACHINE_DRAINED, MACHINE_UP
from scheduler.services.machines import machines_of
from scheduler.services.prices import machine_types
from scheduler.services.quotas import check_alone, check_start
from scheduler.store.models import Machine, MachineGroup, Task, User
from scheduler.store.outbox import group_changed
from scheduler.store.transitions import change_status
from simherd.contract import limits
from simherd.contract.lifecycle import HELD, TERMINAL, Status
from simherd.contract.outcome import OUTCOMES, Cause
from simherd.contract.policy import Policy
from simherd.contract.spec import attempt_key
from simherd.contract.triggers import Trigger

if TYPE_CHECKING:
    from scheduler.wiring import Parts

log = logging.getLogger(__name__)


#: Seconds after which the machines of a group that is shut down are stopped by force.
_FORCE_AFTER_S = limits.AGENT_STOP_S + 5
#: Seconds after which a group whose machines still stand is said to have failed to shut down.
_FAILED_AFTER_S = 600.0


@dataclass(frozen=True)
class GroupRequest:
    """What a user asks for."""

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


def register_group(parts: Parts, user_id: str, asked: GroupRequest) -> MachineGroup:
    """Note a new machine group; nothing runs until it is started.

    Raises:
        Invalid: an unknown machine type or provider, or a number out of bounds.
        Conflict: the name is taken by a group that still exists.
        QuotaExceeded: it alone is more than the user may have.
    """
    with parts.store.read() as session:
        kind = machine_types(session, parts.catalogue).get(asked.machine_type)
    if kind is None:
        known = ", ".join(sorted(parts.catalogue.machine_types))
        raise Invalid(f"machine_type: {asked.machine_type!r} is not known. There are: {known}.")
    provider = _provider(parts, asked)
    if asked.group_type == MPI:
        _check_mpi(parts, asked, provider)
    smallest, largest = _sizes(asked)
    now = time.time()
    group = MachineGroup(
        id=new_uuid(),
        user_id=user_id,
        name=asked.name or new_group_name(),
        wire_provider=asked.wire_provider,
        provider=provider,
        machine_type=kind.name,
        zone=asked.zone or kind.zone,
        group_type=asked.group_type,
        is_elastic=asked.is_elastic,
        spot=asked.spot,
        num_machines=smallest if asked.is_elastic else asked.num_machines,
        min_machines=smallest,
        max_machines=largest,
        disk_size_gb=asked.disk_size_gb,
        threads_per_core=asked.threads_per_core,
        vcpus=kind.vcpus,
        memory_bytes=kind.memory_gb * 1024**3,
        price_hour=kind.spot if asked.spot else kind.on_demand,
        status=GroupStatus.REGISTERED.value,
        max_idle_s=asked.max_idle_s,
        auto_terminate_at=asked.auto_terminate_at,
        reconnect_s=asked.reconnect_s,
        policy=asdict(asked.policy),
        shared=asked.shared,
        on_demand_fallback=asked.on_demand_fallback,
        created_at=now,
    )
    with parts.store.write() as session:
        taken = session.scalar(
            select(MachineGroup).where(
                MachineGroup.user_id == user_id, MachineGroup.name == group.name
            )
        )
        if taken is not None and taken.status != GroupStatus.TERMINATED:
            raise Conflict(f"name: you have a machine group {group.name!r} already.")
        if taken is not None:
            # Names are for people; the old group keeps its id and gives its name away.
            taken.name = f"{taken.name}~{taken.id[:8]}"
            session.flush()
        check_alone(parts, session, group)
        session.add(group)
    return group


def _provider(parts: Parts, asked: GroupRequest) -> str:
    if asked.provider is not None:
        if asked.provider not in parts.providers:
            known = ", ".join(sorted(parts.providers))
            raise Invalid(f"provider: {asked.provider!r} is not set up here. There are: {known}.")
        return asked.provider
    found = parts.catalogue.providers.get(asked.wire_provider)
    if found is None:
        known = ", ".join(sorted(parts.catalogue.providers))
        raise Invalid(f"provider_id: {asked.wire_provider!r} is not known. There are: {known}.")
    return found


def _check_mpi(parts: Parts, asked: GroupRequest, provider: str) -> None:
    if asked.is_elastic:
        raise Invalid("is_elastic: the machines of an MPI group work together; its size is fixed.")
    if asked.num_machines > 1 and not getattr(parts.providers[provider], "one_engine", False):
        raise Invalid(
            f"type: an MPI group of {asked.num_machines} machines needs machines that run "
            f"containers on one Docker engine, and those of the provider {provider!r} do not. "
            "Use one machine, or a provider such as 'docker'."
        )


def _sizes(asked: GroupRequest) -> tuple[int, int]:
    """The least and the most machines."""
    smallest = asked.num_machines if asked.min_machines is None else asked.min_machines
    largest = asked.num_machines if asked.max_machines is None else asked.max_machines
    if not asked.is_elastic:
        return asked.num_machines, asked.num_machines
    if largest < max(1, smallest):
        raise Invalid(f"max_vms: {largest} is less than min_vms, {smallest}, or than 1.")
    return smallest, largest


def usable_group(group: MachineGroup | None, user: User | str, group_id: str) -> MachineGroup:
    """A group that a user may send tasks to.

    Raises:
        NotFound: there is none, or it is another user's and not shared.
    """
    user_id = user if isinstance(user, str) else user.id
    if group is None or not (group.user_id == user_id or group.shared):
        raise NotFound(
            f"resource_pool: there is no machine group with the id {group_id!r}. "
            "`simherd resources list` shows yours."
        )
    return group


def owned_group(parts: Parts, user_id: str, group_id: str) -> MachineGroup:
    """A user's machine group by id.

    Raises:
        NotFound: there is none, or it is another user's.
    """
    with parts.store.read() as session:
        group = session.get(MachineGroup, group_id)
    if group is None or group.user_id != user_id:
        raise NotFound(f"machine_group_id: there is no machine group {group_id!r}.")
    return group


def start_group(parts: Parts, group: MachineGroup) -> None:
    """Mark a group as starting; `scale_group` launches the machines.

    Raises:
        Conflict: it is being shut down or is terminated.
        QuotaExceeded: it is more than the user's quotas leave.
    """
    if group.status in UP:
        return
    with parts.store.write() as session:
        check_start(parts, session, group)
        changed = session.execute(
            update(MachineGroup)
            .where(
                MachineGroup.id == group.id,
                MachineGroup.status.in_([GroupStatus.REGISTERED, GroupStatus.START_FAILED]),
            )
            .values(
                status=GroupStatus.STARTING.value,
                started_at=time.time(),
                status_detail=None,
                refusals=0,
                hard_refusals=0,
                retry_at=None,
            )
        )
    if changed.rowcount == 0:  # type: ignore[attr-defined]
        raise Conflict(f"Machine group {group.name!r} is {group.status}. Make a new one.")
    parts.queue.announce_group()


def resize_group(parts: Parts, group_id: str, num_machines: int) -> None:
    """Change how many machines a group has while none of them runs."""
    with parts.store.write() as session:
        group = session.scalars(select(MachineGroup).where(MachineGroup.id == group_id)).one()
        group.num_machines = group.min_machines = group.max_machines = num_machines
        for machine in machines_of(session, group_id, MACHINE_UP)[num_machines:]:
            machine.status, machine.terminated_at = MACHINE_DOWN, time.time()


def request_termination(parts: Parts, group: MachineGroup, cause: Cause) -> None:
    """Mark a group for shutting down; `shut_down_group` does the rest.

    Raises:
        Conflict: it is being shut down or is terminated already.
    """
    now = time.time()
    with parts.store.write() as session:
        changed: Any = session.execute(
            update(MachineGroup)
            .where(
                MachineGroup.id == group.id,
                MachineGroup.status.in_(ACCEPTING | {GroupStatus.START_FAILED}),
            )
            .values(
                status=GroupStatus.SHUTTING_DOWN.value,
                end_cause=cause.value,
                shutting_down_at=now,
            )
        )
        if changed.rowcount and cause is Cause.GROUP_TIME_LIMIT:
            group_changed(session, group.id, Trigger.GROUP_TIME_LIMIT, now)
    if changed.rowcount == 0:
        raise Conflict(f"Machine group {group.name!r} is {group.status} already.")


def shut_down_group(parts: Parts, group_id: str) -> bool:
    """End a group's tasks and stop its machines; answers whether all of them are gone.

    Machines are asked to stop; when it is called again later, those that have not are forced.
    """
    with parts.store.read() as session:
        group = session.get(MachineGroup, group_id)
        machines = machines_of(session, group_id, MACHINE_UP, MACHINE_DRAINED)
    if group is None or group.status not in ENDING:
        return True
    end_tasks(parts, group, Cause(group.end_cause or Cause.GROUP_TERMINATED))
    gone, trouble = _stop_machines(parts, group, machines)
    _note_gone(parts, group, gone, all_of_them=len(gone) == len(machines), trouble=trouble)
    if len(gone) < len(machines):
        return False
    for machine in machines:
        parts.queue.forget_machine(group_id, machine.id)
    parts.queue.forget_group(group_id)
    log.info("event=group_terminated group=%s", group_id)
    return True


def _stop_machines(
    parts: Parts, group: MachineGroup, machines: list[Machine]
) -> tuple[list[Machine], str | None]:
    """Ask them to stop; answers those that are gone, and what the provider had to say."""
    provider, gone, trouble = parts.providers[group.provider], [], None
    force = time.time() - (group.shutting_down_at or 0) > _FORCE_AFTER_S
    for machine in machines:
        try:
            if provider.by_hand:
                ended = force or _has_left(parts, group, machine)
            else:
                ended = machine.launched_at is None or provider.terminate(
                    machine.id, machine.handle, force=force
                )
            if ended:
                gone.append(machine)
        except Exception as error:
            # One machine that cannot be ended does not keep the others alive, and costing.
            log.exception("event=terminate_failed group=%s machine=%s", group.id, machine.id)
            trouble = f"Machine {machine.name} could not be terminated: {error}"
    return gone, trouble


def _has_left(parts: Parts, group: MachineGroup, machine: Machine) -> bool:
    """Tell a machine that nobody else can end to leave; answers whether it has."""
    parts.queue.leave(group.id, machine.id)
    seen = parts.queue.heartbeats(group.id).get(machine.id, 0.0)
    return time.time() - seen > 2 * limits.HEARTBEAT_S


def _note_gone(
    parts: Parts,
    group: MachineGroup,
    gone: list[Machine],
    *,
    all_of_them: bool,
    trouble: str | None,
) -> None:
    now = time.time()
    ids = [machine.id for machine in gone]
    with parts.store.write() as session:
        session.execute(
            update(Machine)
            .where(Machine.id.in_(ids))
            .values(status=MACHINE_DOWN, terminated_at=now)
        )
        row = session.get_one(MachineGroup, group.id)
        if all_of_them:
            row.status, row.terminated_at = GroupStatus.TERMINATED.value, now
            row.status_detail = None
            group_changed(session, group.id, Trigger.GROUP_TERMINATED, now)
        elif now - (group.shutting_down_at or now) > _FAILED_AFTER_S:
            # It is tried again all the same: machines cost money as long as they are there.
            row.status = GroupStatus.SHUTDOWN_FAILED.value
            row.status_detail = trouble or "Machines still run after they were terminated."
        else:
            row.status_detail = trouble
    revoke(parts, ids)


def end_tasks(parts: Parts, group: MachineGroup, cause: Cause) -> None:
    """Give every task of a group that is shut down its final status."""
    now = time.time()
    with parts.store.read() as session:
        tasks = session.scalars(
            select(Task).where(
                Task.group_id == group.id, Task.status.not_in([s.value for s in TERMINAL])
            )
        ).all()
    outcome = OUTCOMES[cause]
    for task in tasks:
        held = task.status in HELD
        final = outcome.status if held else Status.ZOMBIE
        if task.status == Status.PENDING_KILL:
            final = Status.KILLED
        with parts.store.write() as session:
            changed = change_status(
                session, task.id, final, attempt=task.attempt, at=now, cause=cause.value
            )
            if changed:
                close_attempt(session, task.id, task.attempt, now, cause)
        if changed and task.attempt:
            key = attempt_key(task.id, task.attempt)
            parts.queue.withdraw(group.id, key)
            if held:
                parts.queue.revoke(group.id, key)


def overdue_groups(parts: Parts, now: float) -> list[tuple[MachineGroup, Cause]]:
    """The groups whose time limit or idle limit has passed, each with the cause of its end."""
    due: list[tuple[MachineGroup, Cause]] = []
    with parts.store.read() as session:
        groups = session.scalars(
            select(MachineGroup).where(MachineGroup.status.in_(ACCEPTING))
        ).all()
        for group in groups:
            if group.auto_terminate_at is not None and now >= group.auto_terminate_at:
                due.append((group, Cause.GROUP_TIME_LIMIT))
                continue
            if group.max_idle_s is None or group.started_at is None:
                continue
            working = session.scalar(
                select(func.count())
                .select_from(Task)
                .where(Task.group_id == group.id, Task.end_time.is_(None))
            )
            last = session.scalar(select(func.max(Task.end_time)).where(Task.group_id == group.id))
            if not working and now - max(last or 0, group.started_at) >= group.max_idle_s:
                due.append((group, Cause.GROUP_IDLE))
    return due
