"""What happened to a task that has ended, as the spans of one trace.

All of it is read from SQL, with the times at which it happened: executors need no connection to a
collector, and no trace context travels with an attempt. The ids are derived from the task's id, so
that every process adds spans to the same trace.
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

#: Stages of one task that become spans, the first ones: a task that saves a checkpoint every ten
#: seconds has thousands.
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
    `good`: whether it succeeded, None where that does not apply; `said`: why it failed."""

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
    """Return the span of the request that created a task."""
    span = span_id(task_id, "submit")
    attributes = {"simherd.task": task_id}
    return Span(
        task_id, "submit", span, root(task_id), began, ended, attributes, caused_by=caused_by
    )


def root(task_id: str) -> str:
    """Return the id of a task's outermost span."""
    return span_id(task_id)


def spans_of(session: Session, task_id: str, recorded_at: float) -> list[Span]:
    """Return the spans of a task that has ended, except its submission.
    `recorded_at`: when its end was in SQL, and users could see it, seconds since the epoch."""
    task = session.scalars(select(TaskRow).where(TaskRow.id == task_id)).one()
    changes = session.scalars(
        select(StatusChange).where(StatusChange.task_id == task_id).order_by(StatusChange.id)
    ).all()
    ended_at = task.end_time or recorded_at
    attempts = _attempts(session, task_id, changes, ended_at)
    spans = [_whole(task, changes, max(ended_at, recorded_at))]
    spans += [_upload(c, task_id) for c in changes if c.status == Status.PENDING_INPUT.value]
    for attempt in attempts.values():
        spans += _of_attempt(task, attempt)
    last = attempts.get(task.attempt)
    parent = root(task_id) if last is None else span_id(task_id, "attempt", last.number)
    spans.append(_part(task_id, "record", parent, ended_at, recorded_at, task.attempt or None))
    return spans


def _attempts(
    session: Session, task_id: str, changes: Sequence[StatusChange], ended_at: float
) -> dict[int, _Attempt]:
    attempts: dict[int, _Attempt] = {}
    for change in changes:
        if change.attempt and change.attempt not in attempts:
            if attempts:
                attempts[max(attempts)].ended_at = change.at
            attempts[change.attempt] = _Attempt(change.attempt, change.at, ended_at=ended_at)
    for row in session.scalars(select(AttemptRow).where(AttemptRow.task_id == task_id)):
        if (attempt := attempts.get(row.attempt)) is not None:
            attempt.started_at, attempt.machine_id = row.started_at, row.machine_id
            attempt.ended_at = row.ended_at or attempt.ended_at
            attempt.cause = Cause(row.cause) if row.cause else None
            attempt.detail = row.detail or ""
    stages = select(TaskOperation).where(TaskOperation.task_id == task_id)
    for stage in session.scalars(stages.order_by(TaskOperation.id).limit(MOST_STAGES)):
        if stage.attempt in attempts:
            attempts[stage.attempt].stages.append(stage)
    return attempts


def _whole(task: TaskRow, changes: Sequence[StatusChange], end: float) -> Span:
    status = Status(task.status)
    attributes = {
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
        task.id,
        "task",
        root(task.id),
        None,
        task.create_time,
        end,
        _known(attributes),
        moments,
        good=_went_well(status),
        said=redact(task.error_detail or ""),
    )


def _upload(change: StatusChange, task_id: str) -> Span:
    end = change.ended_at or change.at
    return _part(task_id, "upload input", root(task_id), change.at, end, None)


def _of_attempt(task: TaskRow, attempt: _Attempt) -> list[Span]:
    span = span_id(task.id, "attempt", attempt.number)
    attributes = {
        "simherd.task": task.id,
        "simherd.attempt": attempt.number,
        "simherd.machine": attempt.machine_id,
        "simherd.group": task.group_id,
        "simherd.cause": attempt.cause.value if attempt.cause else None,
    }
    whole = Span(
        task.id,
        "attempt",
        span,
        root(task.id),
        attempt.queued_at,
        max(attempt.queued_at, attempt.ended_at),
        _known(attributes),
        good=_went_well(OUTCOMES[attempt.cause].status) if attempt.cause else None,
        said=redact(attempt.detail),
    )
    claimed_at = attempt.started_at or attempt.ended_at
    wait = _part(task.id, "queue wait", span, attempt.queued_at, claimed_at, attempt.number)
    return [whole, wait, *(_stage(task.id, span, stage, attempt) for stage in attempt.stages)]


def _went_well(status: Status) -> bool | None:
    # A task that its user killed has not failed.
    if status is Status.KILLED:
        return None
    return status not in FAILED


def _stage(task_id: str, parent: str, stage: TaskOperation, attempt: _Attempt) -> Span:
    # Only numbers: command lines and file names are private to the user.
    measured = {
        f"simherd.{name}": value
        for name, value in stage.attributes.items()
        if isinstance(value, bool | int | float)
    }
    return _part(
        task_id,
        stage.name,
        parent,
        stage.started_at,
        stage.ended_at or attempt.ended_at,
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
    attributes = _known({"simherd.task": task_id, "simherd.attempt": attempt, **(more or {})})
    span = span_id(task_id, name, attempt, number)
    # The clocks of machines differ, and a span must not end before it begins.
    return Span(task_id, name, span, parent, start, max(start, end), attributes, good=good)


def _known(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
