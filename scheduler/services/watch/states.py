"""The states of tasks, followed as they change."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from scheduler.store.models import StatusChange, TaskRow
from simherd.contract.lifecycle import RUNNING, TABLE, TERMINAL, Status

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from scheduler.wiring import Runtime

#: Seconds after which all are read though no change was announced: announcements may get lost.
_LOOK_S = 15.0
#: Tasks of one query.
_BATCH = 500


@dataclass(frozen=True)
class TaskState:
    """The state of one task."""

    task_id: str
    status: Status
    attempt: int
    group_id: str
    machine_id: str | None

    @property
    def ended(self) -> bool:
        """Return whether it is final."""
        return self.status in TERMINAL

    @property
    def machine(self) -> str | None:
        """Return the machine that works on it now."""
        return self.machine_id if self.status in RUNNING | {Status.PENDING_KILL} else None

    def json(self) -> dict[str, object]:
        """Return the fields that users get."""
        return {
            "task_id": self.task_id,
            "status": self.status.value,
            "status_alias": TABLE[self.status].label,
            "is_terminated": self.ended,
            "attempt": self.attempt,
        }


def read_states(rt: Runtime, user_id: str, tasks: Iterable[str]) -> dict[str, TaskState]:
    """Return task → its state, for those of some tasks that are the user's."""
    ids = list(tasks)
    columns = (TaskRow.id, TaskRow.status, TaskRow.attempt, TaskRow.group_id, TaskRow.machine_id)
    states = {}
    with rt.store.read() as session:
        for start in range(0, len(ids), _BATCH):
            some = ids[start : start + _BATCH]
            query = select(*columns).where(TaskRow.id.in_(some), TaskRow.user_id == user_id)
            for row in session.execute(query):
                states[row.id] = TaskState(
                    row.id, Status(row.status), row.attempt, row.group_id, row.machine_id
                )
    return states


def describe(rt: Runtime, task_id: str) -> str:
    """Return the newest sentence of a task's history."""
    with rt.store.read() as session:
        newest = session.scalar(
            select(StatusChange.description)
            .where(StatusChange.task_id == task_id)
            .order_by(StatusChange.id.desc())
            .limit(1)
        )
    return newest or ""


async def follow_states(
    rt: Runtime,
    user_id: str,
    tasks: frozenset[str],
    tick_s: float = _LOOK_S,
    seconds: float | None = None,
) -> AsyncGenerator[TaskState | None, None]:
    """Yield each task's state now and whenever it changes, until all have ended or time is up.
    None is yielded while nothing changes, at the latest after `tick_s` seconds."""
    until = float("inf") if seconds is None else time.monotonic() + seconds
    known: dict[str, TaskState] = {}
    async with rt.changes.listening(tasks) as listener:
        changed, quiet_s = set(tasks), 0.0
        while True:
            states = await asyncio.to_thread(read_states, rt, user_id, changed)
            news = [state for state in states.values() if known.get(state.task_id) != state]
            known.update(states)
            for state in news:
                yield state
            if all(task in known and known[task].ended for task in tasks):
                return
            left = until - time.monotonic()
            if left <= 0:
                return
            changed = (await listener.wait(min(tick_s, left))) & tasks
            quiet_s = 0.0 if changed else quiet_s + tick_s
            if not changed:
                yield None
            if quiet_s >= _LOOK_S:
                changed, quiet_s = {t for t in tasks if not known[t].ended}, 0.0
