"""What machines and attempts cost: US$ per hour, times the hours for which they are held.

An attempt costs its share of its machine from when it is taken up until it ends, whatever it does
meanwhile. A machine costs its price from its launch until it is terminated, whether it works or
not. What a user pays is the machines; what a task costs is its attempts.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, case, func, select

from scheduler.store.models import AttemptRow, GroupRow, MachineRow, ProjectRow, TaskRow
from simherd.utils import format_money

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

_HOUR_S = 3600.0


def cost(seconds: float, price_hour: float) -> float:
    """US$ for holding something for so long; a clock that went backwards makes nothing dearer."""
    return max(0.0, seconds) / _HOUR_S * price_hour


def seconds_for(money: float, price_hour: float) -> float | None:
    """For how long so many US$ last; None: for ever, as it costs nothing."""
    if price_hour <= 0:
        return None
    return max(0.0, money) / price_hour * _HOUR_S


def attempt_cost(row: AttemptRow, now: float) -> float:
    """US$ that an attempt cost, so far where it has not ended."""
    ended = now if row.ended_at is None else row.ended_at
    return cost(ended - row.started_at, row.price_hour)


def machine_cost(machine: MachineRow, price_hour: float, now: float) -> float:
    """US$ that a machine cost, so far where it stands; `price_hour`: where it has none."""
    if not _was_there(machine):
        return 0.0
    ended = now if machine.terminated_at is None else machine.terminated_at
    return cost(
        ended - (machine.launched_at or machine.created_at), machine.price_hour or price_hour
    )


def _was_there(machine: MachineRow) -> bool:
    # One that is still to be launched was neither launched nor heard of.
    return machine.launched_at is not None or machine.last_seen_at is not None


def costs_of_tasks(session: Session, task_ids: Iterable[str], now: float) -> dict[str, float]:
    """Task → US$ of its attempts; tasks that nothing has taken up yet are not in it."""
    rows = session.execute(
        select(AttemptRow.task_id, _attempts_cost(now))
        .where(AttemptRow.task_id.in_(list(task_ids)))
        .group_by(AttemptRow.task_id)
    )
    return {task_id: float(total) for task_id, total in rows}


def costs_of_projects(
    session: Session,
    user_id: str,
    now: float,
    span: tuple[float, float] | None = None,
    name: str | None = None,
) -> dict[str, float]:
    """Project name → US$ of its tasks' attempts, by one query; projects without any are not in it.

    Args:
        session: to ask with.
        user_id: whose projects.
        now: until when an attempt counts that has not ended, seconds since the epoch.
        span: only what was held between these two moments.
        name: only this project.
    """
    wanted = select(ProjectRow.name, _attempts_cost(now, span)).where(ProjectRow.user_id == user_id)
    if name is not None:
        wanted = wanted.where(ProjectRow.name == name)
    if span is not None:
        wanted = wanted.where(
            AttemptRow.started_at < span[1], func.coalesce(AttemptRow.ended_at, now) > span[0]
        )
    rows = session.execute(
        wanted.join(TaskRow, TaskRow.project_id == ProjectRow.id)
        .join(AttemptRow, AttemptRow.task_id == TaskRow.id)
        .group_by(ProjectRow.name)
    )
    return {project: float(total) for project, total in rows}


def spent(session: Session, task_id: str, now: float, *, but: int | None = None) -> float:
    """US$ that a task has cost until `now`; without attempt `but`."""
    found = select(_attempts_cost(now)).where(AttemptRow.task_id == task_id)
    if but is not None:
        found = found.where(AttemptRow.attempt != but)
    return float(session.scalar(found) or 0.0)


def money_until(session: Session, task_id: str, attempt: int, max_cost: float) -> float | None:
    """When an attempt will have taken what a task may cost, seconds since the epoch.

    None: never, or the attempt was not taken up.
    """
    row = session.execute(
        select(AttemptRow.started_at, AttemptRow.price_hour).where(
            AttemptRow.task_id == task_id, AttemptRow.attempt == attempt
        )
    ).one_or_none()
    if row is None:
        return None
    started_at, price_hour = row
    left = max_cost - spent(session, task_id, started_at, but=attempt)
    seconds = seconds_for(left, price_hour)
    return None if seconds is None else started_at + seconds


def seconds_for_money(session: Session, task: TaskRow) -> float | None:
    """For how long a whole machine of its group may work on a task's current attempt.

    By the group's price: what the very machine costs is known when one has taken it up.
    """
    if task.max_cost is None:
        return None
    group = session.get_one(GroupRow, task.group_id)
    left = task.max_cost - spent(session, task.id, time.time(), but=task.attempt)
    return seconds_for(left, group.price_hour)


def limit_sentence(so_far: float, max_cost: float) -> str:
    """Say what a task has cost, and what it may cost."""
    may = format_money(max_cost)
    return f"The task's machines have cost {format_money(so_far)}; they may cost {may} (max_cost)."


def past_their_money(now: float) -> ColumnElement[bool]:
    """A condition on tasks: their attempts had cost more than they may at `now`."""
    total = select(_attempts_cost(now)).where(AttemptRow.task_id == TaskRow.id).scalar_subquery()
    return TaskRow.max_cost.is_not(None) & (total > TaskRow.max_cost)


def cost_of_machines(now: float, span: tuple[float, float]) -> ColumnElement[Any]:
    """US$ of machines, joined with their groups, between two moments: for use in a query."""
    return func.coalesce(func.sum(_held(*_machine_times(now), span) / _HOUR_S * _price()), 0.0)


def hours_of_machines(now: float, span: tuple[float, float]) -> ColumnElement[Any]:
    """Hours of machines, joined with their groups, between two moments: for use in a query."""
    return func.coalesce(func.sum(_held(*_machine_times(now), span) / _HOUR_S), 0.0)


def _machine_times(now: float) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    begun = case(
        (MachineRow.launched_at.is_not(None), MachineRow.launched_at),
        (MachineRow.last_seen_at.is_not(None), MachineRow.created_at),
        else_=now,
    )
    return begun, func.coalesce(MachineRow.terminated_at, now)


def _price() -> ColumnElement[Any]:
    return case((MachineRow.price_hour > 0, MachineRow.price_hour), else_=GroupRow.price_hour)


def _attempts_cost(now: float, span: tuple[float, float] | None = None) -> ColumnElement[Any]:
    ended = func.coalesce(AttemptRow.ended_at, now)
    held = _held(AttemptRow.started_at, ended, span)
    return func.coalesce(func.sum(held / _HOUR_S * AttemptRow.price_hour), 0.0)


def _held(
    begun: ColumnElement[Any] | Any, ended: ColumnElement[Any], span: tuple[float, float] | None
) -> ColumnElement[Any]:
    """Seconds from one to the other, within the span where there is one."""
    if span is not None:
        # SQLite and PostgreSQL have no common word for the larger of two.
        begun = case((begun < span[0], span[0]), else_=begun)
        ended = case((ended > span[1], span[1]), else_=ended)
    return case((ended > begun, ended - begun), else_=0.0)
