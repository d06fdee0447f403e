"""What does not belong together: found in both directions, and put right where that is asked for.

The sweep mends what it can see of running groups. What it does not look for is here: things that
cost money or space and that nobody asks for any more.
"""

from __future__ import annotations

import functools
import logging
import time
from dataclasses import dataclass
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

#: Seconds after which an upload in parts that nobody has finished is one that nobody will.
_UPLOAD_AGE_S = 86400.0


@dataclass(frozen=True)
class Inconsistency:
    """One thing that is wrong; `mended` says whether it is put right by now."""

    kind: str
    what: str
    sentence: str
    mended: bool = False


@dataclass(frozen=True)
class _Ill:
    """A finding with its remedy; None where the sweep or the operator has to act."""

    finding: Inconsistency
    mend: Callable[[], object] | None = None


def examine(rt: Runtime, *, fix: bool, storage: bool = False) -> list[Inconsistency]:
    """Look for what does not belong together.

    Args:
        parts: the scheduler's parts.
        fix: put right what can be; what cannot is reported all the same.
        storage: ask the storage for the outputs of every task, too.
    """
    found = []
    for ill in _ills(rt):
        finding, mended = ill.finding, False
        if fix and ill.mend is not None:
            log.warning("event=doctor_mends kind=%s what=%s", finding.kind, finding.what)
            mended = ill.mend() is not False
        found.append(Inconsistency(finding.kind, finding.what, finding.sentence, mended))
    if storage:
        for task_id, path in missing_outputs(rt):
            text = f"The outputs of task {task_id} are not in the storage any more: {path}."
            found.append(Inconsistency("outputs_missing", task_id, text))
    return found


def end_again(rt: Runtime) -> list[str]:
    """End the machines that are still there although they were terminated; answers their ids.

    For the background: machines that are not known here are left to `examine`, as the provider may
    show those of another scheduler.
    """
    ended = []
    for name, provider in providers_in_use(rt).items():
        there = {found.machine_id: found for found in provider.list_machines()}
        with rt.store.read() as session:
            down = session.scalars(
                select(MachineRow.id).where(
                    MachineRow.id.in_(there), MachineRow.status == MACHINE_DOWN
                )
            ).all()
        for machine_id in down:
            log.error("event=terminated_again provider=%s machine=%s", name, machine_id)
            provider.terminate(machine_id, there[machine_id].handle, force=True)
            ended.append(machine_id)
    return ended


def revoke_again(rt: Runtime) -> list[str]:
    """Take away the Redis users of machines that are gone; answers their ids."""
    gone = []
    for name, client in rt.queue.servers.all():
        try:
            for machine_id in sorted(acl.machines_with_acl(client)):
                if not _is_wanted(rt, machine_id):
                    log.error("event=shut_out_again machine=%s", machine_id)
                    acl.revoke_acl(client, machine_id)
                    gone.append(machine_id)
        except redis.RedisError as error:
            log.warning("event=server_left_out server=%s error=%s", name, error)
    return gone


def _ills(rt: Runtime) -> Iterator[_Ill]:
    with rt.store.read() as session:
        machines = {m.id: m for m in session.scalars(select(MachineRow))}
        groups = list(session.scalars(select(GroupRow).where(GroupRow.status.in_(ACTIVE))))
    yield from _stray_machines(rt, machines)
    yield from _silent_machines(groups, machines)
    yield from _stray_users(rt, machines)
    for group in groups:
        if group.quarantined_at is not None:
            text = f"Machine group {group.name} is quarantined: {group.quarantine_reason}."
            yield _Ill(Inconsistency("quarantined_group", group.id, text))
            continue
        # What it finds as well, the sweep does: the group is set aside.
        with isolated(rt, group.id):
            yield from _leases(rt, group, machines)
    yield from _uploads(rt)


def _is_wanted(rt: Runtime, machine_id: str) -> bool:
    """Whether a machine is known, and has not been terminated, at this moment."""
    with rt.store.read() as session:
        status = session.scalar(select(MachineRow.status).where(MachineRow.id == machine_id))
    return status not in (None, MACHINE_DOWN)


def _stray_machines(rt: Runtime, machines: dict[str, MachineRow]) -> Iterator[_Ill]:
    """Machines that a provider has, and nobody here wants."""
    for name, provider in providers_in_use(rt).items():
        for there in provider.list_machines():
            machine = machines.get(there.machine_id)
            if machine is not None and machine.status != MACHINE_DOWN:
                continue
            why = "was terminated" if machine is not None else "is not known"
            sentence = f"Provider {name} has machine {there.machine_id}, which {why} here."

            def end(provider=provider, there=there) -> bool:  # type: ignore[no-untyped-def]
                # Looked at again: it may have been launched while others were mended.
                if _is_wanted(rt, there.machine_id):
                    return False
                return bool(provider.terminate(there.machine_id, there.handle, force=True))

            yield _Ill(Inconsistency("stray_machine", there.machine_id, sentence), end)


def _silent_machines(groups: list[GroupRow], machines: dict[str, MachineRow]) -> Iterator[_Ill]:
    """Machines without an agent, as far as can be told from here."""
    windows, now = {g.id: g.reconnect_s for g in groups}, time.time()
    for machine in machines.values():
        seen = machine.last_seen_at or machine.launched_at
        if machine.status == MACHINE_DOWN or machine.group_id not in windows or seen is None:
            continue
        if now - seen > windows[machine.group_id]:
            text = f"Machine {machine.name} has not been heard of for {now - seen:.0f} s."
            yield _Ill(Inconsistency("silent_machine", machine.id, text))


def _stray_users(rt: Runtime, machines: dict[str, MachineRow]) -> Iterator[_Ill]:
    """Redis users of machines that are gone."""
    for _, client in rt.queue.servers.all():
        for machine_id in sorted(acl.machines_with_acl(client)):
            machine = machines.get(machine_id)
            if machine is None or machine.status == MACHINE_DOWN:
                text = f"Machine {machine_id} is gone and may still use Redis."
                mend = functools.partial(_shut_out, rt, client, machine_id)
                yield _Ill(Inconsistency("stray_user", machine_id, text), mend)


def _shut_out(rt: Runtime, client: redis.Redis, machine_id: str) -> bool:
    if _is_wanted(rt, machine_id):
        return False
    acl.revoke_acl(client, machine_id)
    return True


def _leases(rt: Runtime, group: GroupRow, machines: dict[str, MachineRow]) -> Iterator[_Ill]:
    """Leases without holders, and tasks without machines."""
    leases = rt.queue.reader.leases(group.id)
    holdings = leases.holders
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

            # What becomes of the task is decided by the sweep, which finds it without a lease.
            yield _Ill(Inconsistency("stray_lease", attempt, text), revoke)
    with rt.store.read() as session:
        tasks = session.execute(
            select(TaskRow.id, TaskRow.attempt, TaskRow.machine_id).where(
                TaskRow.group_id == group.id, TaskRow.status.in_([s.value for s in HELD])
            )
        ).all()
    for task_id, number, machine_id in tasks:
        if attempt_key(task_id, number) not in holdings:
            text = f"Task {task_id} is said to be on machine {machine_id}, which has no lease."
            yield _Ill(Inconsistency("task_without_lease", task_id, text))


def _uploads(rt: Runtime) -> Iterator[_Ill]:
    """Uploads in parts that nobody finishes: S3 charges for them until they are aborted."""
    for left in rt.objects.unfinished(time.time() - _UPLOAD_AGE_S):
        text = f"An upload to {left.path} was begun long ago and never finished."

        def abort(left=left) -> None:  # type: ignore[no-untyped-def]
            rt.objects.abort_upload(left.user, left.path, left.upload)

        yield _Ill(Inconsistency("unfinished_upload", left.path, text), abort)
