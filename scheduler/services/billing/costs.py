"""The cost of machines and attempts: US$ per hour, times the hours for which they are held.

An attempt costs its share of its machine from its start until its end, whatever it does meanwhile.
A machine costs its price from its launch until it is terminated, whether it works or not. A user
pays for machines; a task costs what its attempts cost.
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


def cost_of_seconds(seconds: float, price_hour: float) -> float:
    """Return US$ for so many seconds; 0 where a clock went backwards."""
    return max(0.0, seconds) / _HOUR_S * price_hour


def seconds_affordable(money: float, price_hour: float) -> float | None:
    """Return for how many seconds so many US$ last; None: for ever, as it costs nothing."""
    if price_hour <= 0:
        return None
    return max(0.0, money) / price_hour * _HOUR_S


def attempt_cost(row: AttemptRow, now: float) -> float:
    """Return the US$ of an attempt, until `now` if it has not ended."""
    ended = now if row.ended_at is None else row.ended_at
    return cost_of_seconds(ended - row.started_at, row.price_hour)


def machine_cost(machine: MachineRow, price_hour: float, now: float) -> float:
    """Return the US$ of a machine until `now`; `price_hour`: for one without its own price."""
    if machine.launched_at is None and machine.last_seen_at is None:
        return 0.0  # it waits for its launch
    ended = now if machine.terminated_at is None else machine.terminated_at
    return cost_of_seconds(
        ended - (machine.launched_at or machine.created_at), machine.price_hour or price_hour
    )


def costs_of_tasks(session: Session, task_ids: Iterable[str], now: float) -> dict[str, float]:
    """Return task → US$ of its attempts; tasks without attempts are left out."""
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
    """Return project name → US$ of its tasks' attempts; projects without any are left out.

    `now`: the end of attempts that have not ended, seconds since the epoch; `span`: only what was
    held between these two moments; `name`: only this project.
    """
    query = select(ProjectRow.name, _attempts_cost(now, span)).where(ProjectRow.user_id == user_id)
    if name is not None:
        query = query.where(ProjectRow.name == name)
    if span is not None:
        query = query.where(
            AttemptRow.started_at < span[1], func.coalesce(AttemptRow.ended_at, now) > span[0]
        )
    rows = session.execute(
        query.join(TaskRow, TaskRow.project_id == ProjectRow.id)
        .join(AttemptRow, AttemptRow.task_id == TaskRow.id)
        .group_by(ProjectRow.name)
    )
    return {project: float(total) for project, total in rows}


def spent(session: Session, task_id: str, now: float, *, but: int | None = None) -> float:
    """Return the US$ that a task has cost until `now`, without attempt `but`."""
    query = select(_attempts_cost(now)).where(AttemptRow.task_id == task_id)
    if but is not None:
        query = query.where(AttemptRow.attempt != but)
    return float(session.scalar(query) or 0.0)


def max_cost_reached_at(
    session: Session, task_id: str, attempt: int, max_cost: float
) -> float | None:
    """Return when a task will have cost `max_cost` US$, seconds since the epoch.
    None: never, or the attempt was not started."""
    row = session.execute(
        select(AttemptRow.started_at, AttemptRow.price_hour).where(
            AttemptRow.task_id == task_id, AttemptRow.attempt == attempt
        )
    ).one_or_none()
    if row is None:
        return None
    started_at, price_hour = row
    left = max_cost - spent(session, task_id, started_at, but=attempt)
    seconds = seconds_affordable(left, price_hour)
    return None if seconds is None else started_at + seconds


def seconds_until_max_cost(session: Session, task: TaskRow) -> float | None:
    """Return for how many seconds a whole machine may work on a task's current attempt.
    By the group's price: the machine's own is known once one has started the attempt."""
    if task.max_cost is None:
        return None
    group = session.get_one(GroupRow, task.group_id)
    left = task.max_cost - spent(session, task.id, time.time(), but=task.attempt)
    return seconds_affordable(left, group.price_hour)


def limit_sentence(so_far: float, max_cost: float) -> str:
    """Return a sentence on what a task has cost and may cost, US$."""
    may = format_money(max_cost)
    return f"The task's machines have cost {format_money(so_far)}; they may cost {may} (max_cost)."


def is_over_max_cost(now: float) -> ColumnElement[bool]:
    """Return the condition that a task had cost more than its `max_cost` at `now`."""
    total = select(_attempts_cost(now)).where(AttemptRow.task_id == TaskRow.id).scalar_subquery()
    return TaskRow.max_cost.is_not(None) & (total > TaskRow.max_cost)


def cost_of_machines(now: float, span: tuple[float, float]) -> ColumnElement[Any]:
    """Return an expression for the US$ of machines, joined with their groups, within a span."""
    return func.coalesce(func.sum(_held(*_machine_times(now), span) / _HOUR_S * _price()), 0.0)


def hours_of_machines(now: float, span: tuple[float, float]) -> ColumnElement[Any]:
    """Return an expression for the hours of machines, joined with their groups, within a span."""
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
    """Return the seconds from one to the other that are within the span, if there is one."""
    if span is not None:
        # SQLite and PostgreSQL have no common function for the larger of two values.
        begun = case((begun < span[0], span[0]), else_=begun)
        ended = case((ended > span[1], span[1]), else_=ended)
    return case((ended > begun, ended - begun), else_=0.0)
