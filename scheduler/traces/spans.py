"""What happened to a task that has ended, as the spans of one trace.

All of it is read from SQL, with the times at which it happened: executors need no way to a
collector, and nothing is carried along with an attempt. The ids follow from the task's, so whoever
tells a part of it tells a part of the same trace.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from scheduler.store.models import AttemptRow, StatusChange, TaskOperation, TaskRow
from simherd.contract.cause import OUTCOMES, Cause
from simherd.contract.lifecycle import FAILED, Status
from simherd.runtime.redaction import redact
from simherd.runtime.tracing import span_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

#: Stages of one task that are told at the most: the first ones. A task that saves a checkpoint
#: every ten seconds has thousands.
MOST_STAGES = 1000


@dataclass(frozen=True)
class Moment:
    """Something that happened within a span; `at` is seconds since the epoch."""

    name: str
    at: float
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Span:
    """One stretch of time of a task; times are seconds since the epoch.

    `good` says whether it went well, None where that is no question; `said` why not.
    """

    task_id: str
    name: str
    id: str
    parent: str | None
    start: float
    end: float
    attributes: dict[str, Any]
    moments: tuple[Moment, ...] = ()
    good: bool | None = None
    said: str = ""
    #: The W3C `traceparent` of what caused it, where a client sent one.
    caused_by: str | None = None


@dataclass
class _Attempt:
    """One attempt as the history has it."""

    number: int
    queued_at: float
    started_at: float | None = None
    ended_at: float = 0.0
    machine_id: str | None = None
    cause: Cause | None = None
    detail: str = ""
    stages: list[TaskOperation] = field(default_factory=list)


def submission(task_id: str, began: float, ended: float, caused_by: str | None) -> Span:
    """The request that made a task."""
    told = {"simherd.task": task_id}
    return Span(
        *(task_id, "submit", span_id(task_id, "submit"), root(task_id), began, ended, told),
        caused_by=caused_by,
    )


def root(task_id: str) -> str:
    """The id of the span that holds all others of a task."""
    return span_id(task_id)


def spans_of(session: Session, task_id: str, recorded_at: float) -> list[Span]:
    """The spans of a task that has ended, but for its submission.

    Args:
        session: for reading.
        task_id: which task.
        recorded_at: when its end was in SQL, seconds since the epoch: then users could see it.
    """
    task = session.scalars(select(TaskRow).where(TaskRow.id == task_id)).one()
    changes = session.scalars(
        select(StatusChange).where(StatusChange.task_id == task_id).order_by(StatusChange.id)
    ).all()
    ended_at = task.end_time or recorded_at
    attempts = _attempts(session, task_id, changes, ended_at)
    spans = [_whole(task, changes, max(ended_at, recorded_at))]
    spans += [_upload(change, task_id) for change in changes if _waits_for_input(change)]
    for attempt in attempts.values():
        spans += _of_attempt(task, attempt)
    last = attempts.get(task.attempt)
    parent = root(task_id) if last is None else span_id(task_id, "attempt", last.number)
    spans.append(_part(task_id, "record", parent, ended_at, recorded_at, task.attempt or None))
    return spans


def _attempts(
    session: Session, task_id: str, changes: Sequence[StatusChange], ended_at: float
) -> dict[int, _Attempt]:
    found: dict[int, _Attempt] = {}
    for change in changes:
        if change.attempt and change.attempt not in found:
            if found:
                found[max(found)].ended_at = change.at
            found[change.attempt] = _Attempt(change.attempt, change.at, ended_at=ended_at)
    for row in session.scalars(select(AttemptRow).where(AttemptRow.task_id == task_id)):
        if (attempt := found.get(row.attempt)) is not None:
            attempt.started_at, attempt.machine_id = row.started_at, row.machine_id
            attempt.ended_at = row.ended_at or attempt.ended_at
            attempt.cause, attempt.detail = (
                Cause(row.cause) if row.cause else None,
                row.detail or "",
            )
    stages = select(TaskOperation).where(TaskOperation.task_id == task_id)
    for stage in session.scalars(stages.order_by(TaskOperation.id).limit(MOST_STAGES)):
        if stage.attempt in found:
            found[stage.attempt].stages.append(stage)
    return found


def _whole(task: TaskRow, changes: Sequence[StatusChange], end: float) -> Span:
    status = Status(task.status)
    told = {
        "simherd.task": task.id,
        "simherd.user": task.user_id,
        "simherd.group": task.group_id,
        "simherd.simulator": task.simulator,
        "simherd.status": task.status,
        "simherd.attempts": task.attempt,
        "simherd.cause": task.cause,
        "simherd.exit_code": task.exit_code,
    }
    moments = tuple(
        Moment(
            change.status,
            change.at,
            _known(
                {
                    "simherd.attempt": change.attempt,
                    "simherd.machine": change.machine_id,
                    "simherd.description": redact(change.description),
                }
            ),
        )
        for change in changes
    )
    return Span(
        *(task.id, "task", root(task.id), None, task.create_time, end, _known(told), moments),
        good=_went_well(status),
        said=redact(task.error_detail or ""),
    )


def _waits_for_input(change: StatusChange) -> bool:
    return change.status == Status.PENDING_INPUT.value


def _upload(change: StatusChange, task_id: str) -> Span:
    return _part(
        *(task_id, "upload input", root(task_id), change.at, change.ended_at or change.at),
        None,
    )


def _of_attempt(task: TaskRow, attempt: _Attempt) -> list[Span]:
    me = span_id(task.id, "attempt", attempt.number)
    told = {
        "simherd.task": task.id,
        "simherd.attempt": attempt.number,
        "simherd.machine": attempt.machine_id,
        "simherd.group": task.group_id,
        "simherd.cause": attempt.cause.value if attempt.cause else None,
    }
    whole = Span(
        *(task.id, "attempt", me, root(task.id)),
        *(attempt.queued_at, max(attempt.queued_at, attempt.ended_at), _known(told)),
        good=_went_well(OUTCOMES[attempt.cause].status) if attempt.cause else None,
        said=redact(attempt.detail),
    )
    claimed_at = attempt.started_at or attempt.ended_at
    wait = _part(task.id, "queue wait", me, attempt.queued_at, claimed_at, attempt.number)
    return [whole, wait, *(_stage(task.id, me, stage, attempt) for stage in attempt.stages)]


def _went_well(status: Status) -> bool | None:
    # That somebody wants it no more is no error of anything.
    if status is Status.KILLED:
        return None
    return status not in FAILED


def _stage(task_id: str, parent: str, stage: TaskOperation, attempt: _Attempt) -> Span:
    # Numbers alone: a command line or an archive's file names are nobody's but the user's.
    measured = {
        f"simherd.{name}": value
        for name, value in stage.attributes.items()
        if isinstance(value, bool | int | float)
    }
    return _part(
        *(task_id, stage.name, parent, stage.started_at, stage.ended_at or attempt.ended_at),
        attempt.number,
        number=stage.number,
        good=stage.status == "OK",
        more={**measured, **_known({"simherd.machine": attempt.machine_id})},
    )


def _part(
    task_id: str,
    name: str,
    parent: str,
    start: float,
    end: float,
    attempt: int | None,
    *,
    number: int = 0,
    good: bool | None = None,
    more: dict[str, Any] | None = None,
) -> Span:
    told = _known({"simherd.task": task_id, "simherd.attempt": attempt, **(more or {})})
    me = span_id(task_id, name, attempt, number)
    # Clocks differ from machine to machine; no span ends before it begins.
    return Span(task_id, name, me, parent, start, max(start, end), told, good=good)


def _known(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
