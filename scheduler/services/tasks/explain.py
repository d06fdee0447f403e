"""Why a task waits: one word for programs, one sentence for people."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from scheduler.domain.group_status import UP, GroupStatus
from scheduler.services.machines.provision import machines_of
from scheduler.store.machine_state import MACHINE_DRAINED, MACHINE_UP, shown_state
from scheduler.store.models import GroupRow, MachineRow, TaskRow
from simherd.contract.attempt_spec import attempt_key
from simherd.contract.lifecycle import HELD, TABLE, TERMINAL, Status

if TYPE_CHECKING:
    from scheduler.wiring import Runtime

#: The last ended tasks of the group, whose mean length is the estimate.
_MEASURED = 20


_QUARANTINED = (
    "Machine group {0.name!r} is quarantined: {0.quarantine_reason}. Nothing goes on in it until "
    "an operator runs `simherd admin groups repair {0.name}`."
)


@dataclass(frozen=True)
class Explanation:
    """`reason` is for programs, `sentence` for people; `estimate_s` is a guess in seconds."""

    reason: str
    sentence: str
    ahead: int | None = None
    estimate_s: float | None = None


def explain_task(rt: Runtime, task: TaskRow, now: float) -> Explanation:
    """Return what a task waits for, or how it has ended."""
    status = Status(task.status)
    if status in TERMINAL:
        why = task.error_detail or TABLE[status].explanation
        return Explanation("ended", f"It has ended ({TABLE[status].label}): {why}")
    if status is Status.PENDING_INPUT:
        return Explanation("input", "Its input has not been uploaded completely.")
    if status is Status.PENDING_KILL:
        return Explanation("kill", "It is being killed; its machine has not confirmed it yet.")
    with rt.store.read() as session:
        group = session.get_one(GroupRow, task.group_id)
        machines = machines_of(session, group.id, MACHINE_UP, MACHINE_DRAINED)
    if group.quarantined_at is not None:
        return Explanation("group_quarantined", _QUARANTINED.format(group))
    if status in HELD:
        return _held(task, machines, now)
    trouble = _group_trouble(group) or _machine_trouble(rt, group, machines, now)
    return trouble or _in_line(rt, task, group, machines, now)


def _held(task: TaskRow, machines: list[MachineRow], now: float) -> Explanation:
    machine = next((m for m in machines if m.id == task.machine_id), None)
    name = machine.name if machine is not None else task.machine_id
    if machine is not None and shown_state(machine, now) == "suspect":
        silent = now - (machine.last_seen_at or now)
        return Explanation(
            "suspect",
            f"Machine {name} has it, and has sent no heartbeat for {silent:.0f} s. It keeps the "
            "task until its group's reconnect window ends.",
        )
    return Explanation("works", f"It is not waiting: machine {name} works on it.")


def _group_trouble(group: GroupRow) -> Explanation | None:
    """Return what keeps the whole group from working."""
    name = group.name
    if group.status == GroupStatus.REGISTERED:
        text = f"Machine group {name!r} has not been started. `simherd resources start` does that."
        return Explanation("group_not_started", text)
    if group.status == GroupStatus.START_FAILED:
        return Explanation(
            "group_failed", f"Machine group {name!r} could not start: {group.status_detail}"
        )
    if group.status not in UP:
        return Explanation("group_ends", f"Machine group {name!r} is {group.status}.")
    return None


def _machine_trouble(
    rt: Runtime, group: GroupRow, machines: list[MachineRow], now: float
) -> Explanation | None:
    """Return why no machine of the group can take a task."""
    states = {m.id: shown_state(m, now) for m in machines}
    working = [m for m in machines if states[m.id] == MACHINE_UP]
    if not working:
        if group.status_detail:
            return Explanation("capacity", f"There is no machine yet: {group.status_detail}")
        coming = sum(state == "starting" for state in states.values())
        if coming:
            return Explanation("machines_start", f"{coming} machine(s) of its group are starting.")
        if group.is_elastic:
            return Explanation("no_machine", "Its group has no machine; one is added soon.")
        listed = ", ".join(f"{m.name} is {states[m.id]}" for m in machines)
        return Explanation("no_machine", f"Its group has no machine that works. {listed}".strip())
    facts = rt.queue.reader.facts(group.id, [m.id for m in working])
    reasons = {m.name: facts.get(m.id, {}).get("waits_for") for m in working}
    if all(reasons.values()):
        listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        return Explanation("no_room", f"No machine has room for another task. {listed}")
    return None


def _in_line(
    rt: Runtime, task: TaskRow, group: GroupRow, machines: list[MachineRow], now: float
) -> Explanation:
    ahead = rt.queue.reader.position(group.id, attempt_key(task.id, task.attempt))
    if ahead is None:
        return Explanation("queueing", "It is just being put into the queue, or taken out of it.")
    facts = rt.queue.reader.facts(group.id, [m.id for m in machines])
    slots = sum(facts.get(m.id, {}).get("slots", 1) for m in machines if m.status == MACHINE_UP)
    estimate = _estimate(rt, group.id, ahead, max(1, slots))
    text = f"All {slots} slot(s) of its group are busy, and {ahead} task(s) are ahead of it."
    if task.losses:
        text += f" Its last machine was lost; this is attempt {task.attempt}."
    if estimate is not None:
        text += f" By the last tasks there, it begins in about {_words(estimate)}."
    return Explanation("busy", text, ahead, estimate)


def _estimate(rt: Runtime, group_id: str, ahead: int, slots: int) -> float | None:
    """Return the seconds until its turn, if tasks take as long as the last ones did."""
    last = (
        select((TaskRow.end_time - TaskRow.start_time).label("took"))
        .where(
            TaskRow.group_id == group_id,
            TaskRow.status == Status.SUCCESS.value,
            TaskRow.start_time.is_not(None),
        )
        .order_by(TaskRow.end_time.desc())
        .limit(_MEASURED)
        .subquery()
    )
    with rt.store.read() as session:
        mean = session.scalar(select(func.avg(last.c.took)))
    # On average the running tasks are half done.
    return None if mean is None else float(mean) * (math.floor(ahead / slots) + 0.5)


def _words(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
