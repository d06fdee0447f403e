"""Inconsistencies between SQL, Redis, providers and storage, found and repaired.

The sweep repairs running groups. This finds what no sweep looks for: things that cost money or
space and that nothing refers to.
"""

from __future__ import annotations

import functools
import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import redis
from sqlalchemy import select

from scheduler.domain.group_status import ACTIVE
from scheduler.queue import acl
from scheduler.services.accounts.provider_access import providers_in_use
from scheduler.services.control.missing_outputs import missing_outputs
from scheduler.services.control.quarantine import isolated
from scheduler.store.machine_state import MACHINE_DOWN
from scheduler.store.models import GroupRow, MachineRow, TaskRow
from simherd.contract.attempt_spec import attempt_key
from simherd.contract.lifecycle import HELD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)

#: Seconds after which an unfinished upload in parts counts as abandoned.
_UPLOAD_AGE_S = 86400.0


@dataclass(frozen=True)
class Inconsistency:
    """One thing that is wrong; `mended` says whether it is repaired."""

    kind: str
    what: str
    sentence: str
    mended: bool = False


@dataclass(frozen=True)
class _Finding:
    """An inconsistency with its repair; None where the sweep or an operator has to act."""

    inconsistency: Inconsistency
    repair: Callable[[], object] | None = None


def examine(rt: Runtime, *, fix: bool, storage: bool = False) -> list[Inconsistency]:
    """Look for inconsistencies.

    `fix`: repair what can be repaired; the rest is reported all the same. `storage`: check the
    outputs of every task in the storage, too.
    """
    inconsistencies = []
    for finding in _findings(rt):
        inconsistency = finding.inconsistency
        if fix and finding.repair is not None:
            kind, what = inconsistency.kind, inconsistency.what
            log.warning("event=doctor_mends kind=%s what=%s", kind, what)
            inconsistency = replace(inconsistency, mended=finding.repair() is not False)
        inconsistencies.append(inconsistency)
    if storage:
        for task_id, path in missing_outputs(rt):
            text = f"The outputs of task {task_id} are not in the storage any more: {path}."
            inconsistencies.append(Inconsistency("outputs_missing", task_id, text))
    return inconsistencies


def end_again(rt: Runtime) -> list[str]:
    """Terminate the machines again that still run after they were terminated; return their ids.

    A background job. Unknown machines are left to `examine`, because the provider may also list
    those of another scheduler.
    """
    ended = []
    for name, provider in providers_in_use(rt).items():
        running = {machine.machine_id: machine for machine in provider.list_machines()}
        with rt.store.read() as session:
            down = session.scalars(
                select(MachineRow.id).where(
                    MachineRow.id.in_(running), MachineRow.status == MACHINE_DOWN
                )
            ).all()
        for machine_id in down:
            log.error("event=terminated_again provider=%s machine=%s", name, machine_id)
            provider.terminate(machine_id, running[machine_id].handle, force=True)
            ended.append(machine_id)
    return ended


def revoke_again(rt: Runtime) -> list[str]:
    """Remove the Redis users of machines that are gone; return the ids of the machines."""
    revoked = []
    for name, client in rt.queue.servers.all():
        try:
            for machine_id in sorted(acl.machines_with_acl(client)):
                if _revoke(rt, client, machine_id):
                    log.error("event=shut_out_again machine=%s", machine_id)
                    revoked.append(machine_id)
        except redis.RedisError as error:
            log.warning("event=server_left_out server=%s error=%s", name, error)
    return revoked


def _findings(rt: Runtime) -> Iterator[_Finding]:
    with rt.store.read() as session:
        machines = {m.id: m for m in session.scalars(select(MachineRow))}
        groups = list(session.scalars(select(GroupRow).where(GroupRow.status.in_(ACTIVE))))
    yield from _stray_machines(rt, machines)
    yield from _silent_machines(groups, machines)
    yield from _stray_users(rt, machines)
    for group in groups:
        if group.quarantined_at is not None:
            text = f"Machine group {group.name} is quarantined: {group.quarantine_reason}."
            yield _Finding(Inconsistency("quarantined_group", group.id, text))
            continue
        # A group whose keys turn out to be broken is quarantined, as the sweep would do.
        with isolated(rt, group.id):
            yield from _leases(rt, group, machines)
    yield from _uploads(rt)


def _is_wanted(rt: Runtime, machine_id: str) -> bool:
    """Return whether a machine is known, and has not been terminated, at this moment."""
    with rt.store.read() as session:
        status = session.scalar(select(MachineRow.status).where(MachineRow.id == machine_id))
    return status not in (None, MACHINE_DOWN)


def _stray_machines(rt: Runtime, machines: dict[str, MachineRow]) -> Iterator[_Finding]:
    """Yield the machines that a provider runs and that the scheduler does not want."""
    for name, provider in providers_in_use(rt).items():
        for running in provider.list_machines():
            machine = machines.get(running.machine_id)
            if machine is not None and machine.status != MACHINE_DOWN:
                continue
            why = "was terminated" if machine is not None else "is not known"
            sentence = f"Provider {name} has machine {running.machine_id}, which {why} here."

            def end(provider=provider, running=running) -> bool:  # type: ignore[no-untyped-def]
                # Checked again, because it may have been launched during other repairs.
                if _is_wanted(rt, running.machine_id):
                    return False
                return bool(provider.terminate(running.machine_id, running.handle, force=True))

            yield _Finding(Inconsistency("stray_machine", running.machine_id, sentence), end)


def _silent_machines(groups: list[GroupRow], machines: dict[str, MachineRow]) -> Iterator[_Finding]:
    """Yield the machines that seem to have no agent."""
    windows, now = {g.id: g.reconnect_s for g in groups}, time.time()
    for machine in machines.values():
        seen = machine.last_seen_at or machine.launched_at
        if machine.status == MACHINE_DOWN or machine.group_id not in windows or seen is None:
            continue
        if now - seen > windows[machine.group_id]:
            text = f"Machine {machine.name} has been silent for {now - seen:.0f} s."
            yield _Finding(Inconsistency("silent_machine", machine.id, text))


def _stray_users(rt: Runtime, machines: dict[str, MachineRow]) -> Iterator[_Finding]:
    """Yield the Redis users of machines that are gone."""
    for _, client in rt.queue.servers.all():
        for machine_id in sorted(acl.machines_with_acl(client)):
            machine = machines.get(machine_id)
            if machine is None or machine.status == MACHINE_DOWN:
                text = f"Machine {machine_id} is gone and can still use Redis."
                repair = functools.partial(_revoke, rt, client, machine_id)
                yield _Finding(Inconsistency("stray_user", machine_id, text), repair)


def _revoke(rt: Runtime, client: redis.Redis, machine_id: str) -> bool:
    if _is_wanted(rt, machine_id):
        return False
    acl.revoke_acl(client, machine_id)
    return True


def _leases(rt: Runtime, group: GroupRow, machines: dict[str, MachineRow]) -> Iterator[_Finding]:
    """Yield the leases without a machine, and the tasks without a lease."""
    leases = rt.queue.reader.leases(group.id)
    holders = leases.holders
    for lease in leases.all:
        attempt, holder = lease.attempt, machines.get(lease.holder)
        if holder is None or holder.status == MACHINE_DOWN:
            name = lease.holder or "a machine that is not of its group"
            text = f"{attempt} is leased to {name}, which is gone."

            def revoke(attempt=attempt) -> bool:  # type: ignore[no-untyped-def]
                now = rt.queue.reader.holder(group.id, attempt)
                if now is not None and _is_wanted(rt, now):
                    return False
                rt.queue.revoke(group.id, attempt)
                return True

            # The sweep, which finds the task without a lease, decides what becomes of it.
            yield _Finding(Inconsistency("stray_lease", attempt, text), revoke)
    with rt.store.read() as session:
        tasks = session.execute(
            select(TaskRow.id, TaskRow.attempt, TaskRow.machine_id).where(
                TaskRow.group_id == group.id, TaskRow.status.in_([s.value for s in HELD])
            )
        ).all()
    for task_id, number, machine_id in tasks:
        if attempt_key(task_id, number) not in holders:
            text = f"Task {task_id} is on machine {machine_id} by SQL, and has no lease in Redis."
            yield _Finding(Inconsistency("task_without_lease", task_id, text))


def _uploads(rt: Runtime) -> Iterator[_Finding]:
    """Yield abandoned uploads in parts: S3 charges for them until they are aborted."""
    for upload in rt.objects.unfinished(time.time() - _UPLOAD_AGE_S):
        text = f"An upload to {upload.path} was begun long ago and never finished."
        abort = functools.partial(rt.objects.abort_upload, upload.user, upload.path, upload.upload)
        yield _Finding(Inconsistency("unfinished_upload", upload.path, text), abort)
