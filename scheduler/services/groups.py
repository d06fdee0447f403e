"""Machine groups: register, start, terminate, and keep at their size."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from scheduler.providers.base import MachinePlan, MachineState
from scheduler.services.errors import Conflict, Invalid, NotFound
from scheduler.services.ids import new_group_name, new_uuid
from scheduler.store.models import Machine, MachineGroup, Task
from scheduler.store.transitions import change_status
from simherd.contract import limits
from simherd.contract.lifecycle import HELD, TERMINAL, Status
from simherd.contract.outcome import OUTCOMES, Cause
from simherd.contract.policy import Policy
from simherd.contract.spec import attempt_key

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from scheduler.wiring import Parts

log = logging.getLogger(__name__)


class GroupStatus(str, Enum):
    """A machine group's status, as the HTTP contract has it."""

    REGISTERED = "registered"
    STARTING = "starting"
    START_FAILED = "start_failed"
    STARTED = "started"
    SHUTTING_DOWN = "shutting_down"
    TERMINATED = "terminated"

    def __str__(self) -> str:
        return self.value


#: In these a group takes tasks.
ACCEPTING = frozenset({GroupStatus.REGISTERED, GroupStatus.STARTING, GroupStatus.STARTED})
#: In these its machines are kept up.
UP = frozenset({GroupStatus.STARTING, GroupStatus.STARTED})
#: In these it is listed.
ACTIVE = ACCEPTING | {GroupStatus.START_FAILED, GroupStatus.SHUTTING_DOWN}
#: A machine that is there, as far as we know.
MACHINE_UP = "started"
#: It ends what it has and takes nothing more; another takes its place.
MACHINE_DRAINED = "drained"
MACHINE_DOWN = "terminated"
#: Seconds after which the machines of a group that is shut down are stopped by force.
_FORCE_AFTER_S = limits.AGENT_STOP_S + 5


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
    policy: Policy = field(default_factory=Policy)


def register_group(parts: Parts, user_id: str, asked: GroupRequest) -> MachineGroup:
    """Note a new machine group; nothing runs until it is started.

    Raises:
        Invalid: an unknown machine type or provider, or a number out of bounds.
        Conflict: the name is taken by a group that still exists.
    """
    kind = parts.catalogue.machine_types.get(asked.machine_type)
    if kind is None:
        known = ", ".join(sorted(parts.catalogue.machine_types))
        raise Invalid(f"machine_type: {asked.machine_type!r} is not known. There are: {known}.")
    provider = parts.catalogue.providers.get(asked.wire_provider)
    if provider is None:
        known = ", ".join(sorted(parts.catalogue.providers))
        raise Invalid(f"provider_id: {asked.wire_provider!r} is not known. There are: {known}.")
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
        num_machines=asked.num_machines,
        min_machines=asked.min_machines or asked.num_machines,
        max_machines=asked.max_machines or asked.num_machines,
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
        session.add(group)
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
    """
    if group.status in UP:
        return
    with parts.store.write() as session:
        changed = session.execute(
            update(MachineGroup)
            .where(
                MachineGroup.id == group.id,
                MachineGroup.status.in_([GroupStatus.REGISTERED, GroupStatus.START_FAILED]),
            )
            .values(status=GroupStatus.STARTING.value, started_at=time.time())
        )
    if changed.rowcount == 0:  # type: ignore[attr-defined]
        raise Conflict(f"Machine group {group.name!r} is {group.status}. Make a new one.")
    parts.queue.announce_group()


def resize_group(parts: Parts, group_id: str, num_machines: int) -> None:
    """Change how many machines a group has while none of them runs."""
    with parts.store.write() as session:
        group = session.scalars(select(MachineGroup).where(MachineGroup.id == group_id)).one()
        group.num_machines = group.min_machines = group.max_machines = num_machines
        for machine in _machines(session, group_id, MACHINE_UP)[num_machines:]:
            machine.status, machine.terminated_at = MACHINE_DOWN, time.time()


def scale_group(parts: Parts, group_id: str) -> None:
    """Bring a group's machines to the number it should have; replace those that died."""
    with parts.store.read() as session:
        group = session.get(MachineGroup, group_id)
        machines = _machines(session, group_id, MACHINE_UP)
    if group is None or group.status not in UP:
        return
    provider = parts.providers[group.provider]
    missing = group.num_machines - len(machines)
    for machine in machines:
        if provider.describe(machine.id, machine.handle) is MachineState.GONE:
            _launch(parts, group, machine)
    for _ in range(missing):
        machine_id = new_uuid()
        machine = Machine(
            id=machine_id,
            group_id=group.id,
            name=f"{group.name}-{machine_id[:4]}",
            status=MACHINE_UP,
            handle={},
            created_at=time.time(),
        )
        with parts.store.write() as session:
            session.add(machine)
        _launch(parts, group, machine)
    with parts.store.write() as session:
        session.execute(
            update(MachineGroup)
            .where(MachineGroup.id == group_id, MachineGroup.status == GroupStatus.STARTING)
            .values(status=GroupStatus.STARTED.value)
        )


def _machines(session: Session, group_id: str, *statuses: str) -> list[Machine]:
    return list(
        session.scalars(
            select(Machine).where(
                Machine.group_id == group_id,
                Machine.status.in_(statuses),
                Machine.terminated_at.is_(None),
            )
        )
    )


def _launch(parts: Parts, group: MachineGroup, machine: Machine) -> None:
    plan = MachinePlan(
        machine.id,
        group.id,
        machine.name,
        group.machine_type,
        group.spot,
        group.vcpus,
        group.memory_bytes,
        group.disk_size_gb,
        group.reconnect_s,
        Policy.read(group.policy),
    )
    handle = parts.providers[group.provider].launch(plan)
    log.info("event=machine_launched group=%s machine=%s", group.id, machine.id)
    with parts.store.write() as session:
        session.execute(update(Machine).where(Machine.id == machine.id).values(handle=handle))


def request_termination(parts: Parts, group: MachineGroup, cause: Cause) -> None:
    """Mark a group for shutting down; `shut_down_group` does the rest.

    Raises:
        Conflict: it is being shut down or is terminated already.
    """
    with parts.store.write() as session:
        changed = session.execute(
            update(MachineGroup)
            .where(
                MachineGroup.id == group.id,
                MachineGroup.status.in_(ACCEPTING | {GroupStatus.START_FAILED}),
            )
            .values(
                status=GroupStatus.SHUTTING_DOWN.value,
                end_cause=cause.value,
                shutting_down_at=time.time(),
            )
        )
    if changed.rowcount == 0:  # type: ignore[attr-defined]
        raise Conflict(f"Machine group {group.name!r} is {group.status} already.")


def shut_down_group(parts: Parts, group_id: str) -> bool:
    """End a group's tasks and stop its machines; answers whether all of them are gone.

    Machines are asked to stop; when it is called again later, those that have not are forced.
    """
    with parts.store.read() as session:
        group = session.get(MachineGroup, group_id)
        machines = _machines(session, group_id, MACHINE_UP, MACHINE_DRAINED)
    if group is None or group.status != GroupStatus.SHUTTING_DOWN:
        return True
    end_tasks(parts, group, Cause(group.end_cause or Cause.GROUP_TERMINATED))
    provider = parts.providers[group.provider]
    force = time.time() - (group.shutting_down_at or 0) > _FORCE_AFTER_S
    gone = [m for m in machines if provider.terminate(m.id, m.handle, force=force)]
    now = time.time()
    with parts.store.write() as session:
        for machine in gone:
            session.execute(
                update(Machine)
                .where(Machine.id == machine.id)
                .values(status=MACHINE_DOWN, terminated_at=now)
            )
        if len(gone) == len(machines):
            session.execute(
                update(MachineGroup)
                .where(MachineGroup.id == group_id)
                .values(status=GroupStatus.TERMINATED.value, terminated_at=now)
            )
    if len(gone) < len(machines):
        return False
    for machine in machines:
        parts.queue.forget_machine(group_id, machine.id)
    parts.queue.forget_group(group_id)
    log.info("event=group_terminated group=%s", group_id)
    return True


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
