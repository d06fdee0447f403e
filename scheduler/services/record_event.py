"""Applying what executors report to SQL: in order, once, and only for the current attempt."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from scheduler.store.models import MachineGroup, StatusChange, Task, TaskOperation
from scheduler.store.transitions import change_status
from simherd.contract import limits
from simherd.contract.events import Event, Kind
from simherd.contract.lifecycle import TERMINAL, Status
from simherd.contract.operations import Metric
from simherd.contract.outcome import OUTCOMES, Cause

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)


class Verdict(Enum):
    """What became of a report."""

    RECORDED = "recorded"
    #: It stands in SQL already.
    REPEATED = "repeated"
    #: One before it is missing; the executor will send both again.
    GAP = "gap"
    #: It speaks for an attempt that is no longer current: its sender must stop.
    FENCED = "fenced"
    #: The task is being killed and its holder must be told.
    KILL = "kill"


@dataclass
class Recorded:
    """The verdict, the number of the attempt's last event in SQL, and what to do next."""

    verdict: Verdict
    last: int = 0
    requeue: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Row:
    """What deciding needs to know of a task."""

    id: str
    group_id: str
    attempt: int
    status: Status
    last_event: int
    resubmit: bool
    input_submit_time: float | None
    computation_start_time: float | None
    create_time: float


def record(session: Session, group_id: str, event: Event) -> Recorded:
    """Apply one report of a group's event stream in the caller's transaction."""
    row = _load(session, event.task_id)
    if row is None or row.group_id != group_id or event.attempt != row.attempt:
        return Recorded(Verdict.FENCED, event.number)
    if event.number <= row.last_event:
        return Recorded(Verdict.REPEATED, row.last_event)
    if event.number > row.last_event + 1:
        return Recorded(Verdict.GAP, row.last_event)
    if row.status in TERMINAL:
        return Recorded(Verdict.FENCED, event.number)
    session.execute(
        update(Task)
        .where(Task.id == row.id, Task.attempt == row.attempt)
        .values(last_event=event.number)
        .execution_options(synchronize_session=False)
    )
    result = Recorded(Verdict.RECORDED, event.number)
    _APPLY[event.kind](session, row, event, result)
    if row.status == Status.PENDING_KILL and event.kind is Kind.STARTED:
        result.verdict = Verdict.KILL
    return result


def _load(session: Session, task_id: str) -> _Row | None:
    found = session.execute(
        select(
            Task.id,
            Task.group_id,
            Task.attempt,
            Task.status,
            Task.last_event,
            Task.resubmit,
            Task.input_submit_time,
            Task.computation_start_time,
            Task.create_time,
        )
        .where(Task.id == task_id)
        .with_for_update()
    ).one_or_none()
    if found is None:
        return None
    values = found._asdict()
    return _Row(**{**values, "status": Status(values["status"])})


def _started(session: Session, row: _Row, event: Event, _result: Recorded) -> None:
    provider = session.scalar(
        select(MachineGroup.wire_provider).where(MachineGroup.id == row.group_id)
    )
    waited = event.at - (row.input_submit_time or row.create_time)
    _merge_metrics(session, row, {Metric.QUEUE_TIME_SECONDS.value: round(max(0.0, waited), 6)})
    _set(
        session,
        row,
        {
            "machine_id": event.executor,
            "executer": {**event.body.get("executer", {}), "host_type": provider},
            "start_time": event.at,
        },
    )
    _move(session, row, event, Status.STARTED)


def _computation_started(session: Session, row: _Row, event: Event, _result: Recorded) -> None:
    _set(session, row, {"computation_start_time": event.at})
    _move(session, row, event, Status.COMPUTATION_STARTED)


def _computation_ended(session: Session, row: _Row, event: Event, _result: Recorded) -> None:
    _set(session, row, {"computation_end_time": event.at})
    if row.computation_start_time is not None:
        seconds = round(max(0.0, event.at - row.computation_start_time), 6)
        _merge_metrics(session, row, {Metric.COMPUTATION_SECONDS.value: seconds})
    _move(session, row, event, Status.COMPUTATION_ENDED)


def _move(session: Session, row: _Row, event: Event, to: Status) -> None:
    # What a task that is being killed still goes through is measured, not shown as its status.
    if row.status != Status.PENDING_KILL:
        change_status(
            session, row.id, to, attempt=row.attempt, at=event.at, machine_id=event.executor
        )


def _operation_started(session: Session, row: _Row, event: Event, _result: Recorded) -> None:
    current = session.scalar(
        select(StatusChange.id)
        .where(StatusChange.task_id == row.id)
        .order_by(StatusChange.id.desc())
        .limit(1)
    )
    session.add(
        TaskOperation(
            task_id=row.id,
            attempt=row.attempt,
            number=event.body["id"],
            status_change_id=current,
            name=event.body["name"],
            status="RUNNING",
            started_at=event.at,
            attributes=event.body["attributes"],
        )
    )


def _operation_ended(session: Session, row: _Row, event: Event, _result: Recorded) -> None:
    operation = session.scalar(
        select(TaskOperation).where(
            TaskOperation.task_id == row.id,
            TaskOperation.attempt == row.attempt,
            TaskOperation.number == event.body["id"],
        )
    )
    if operation is not None:
        operation.status = event.body["status"]
        operation.ended_at = event.at
        operation.attributes = {**operation.attributes, **event.body["attributes"]}


def _metrics(session: Session, row: _Row, event: Event, _result: Recorded) -> None:
    known = {m.value for m in Metric}
    _merge_metrics(session, row, {k: v for k, v in event.body["metrics"].items() if k in known})


def _finished(session: Session, row: _Row, event: Event, result: Recorded) -> None:
    body = event.body
    end_attempt(
        session,
        row.id,
        row.attempt,
        row.status,
        row.resubmit,
        Cause(body["cause"]),
        event.at,
        result.requeue,
        detail=body.get("detail"),
        exit_code=body.get("exit_code"),
        machine_id=event.executor,
    )
    total = round(max(0.0, event.at - row.create_time), 6)
    _merge_metrics(session, row, {Metric.TOTAL_SECONDS.value: total})


_APPLY = {
    Kind.STARTED: _started,
    Kind.COMPUTATION_STARTED: _computation_started,
    Kind.COMPUTATION_ENDED: _computation_ended,
    Kind.OPERATION_STARTED: _operation_started,
    Kind.OPERATION_ENDED: _operation_ended,
    Kind.METRICS: _metrics,
    Kind.FINISHED: _finished,
}


def end_attempt(
    session: Session,
    task_id: str,
    attempt: int,
    status: Status,
    resubmit: bool,
    cause: Cause,
    at: float,
    requeue: list[str],
    *,
    detail: str | None = None,
    exit_code: int | None = None,
    machine_id: str | None = None,
) -> bool:
    """End a task's current attempt: with its final status, or back in the queue.

    A task that is being killed ends killed, whatever its attempt ended with: the kill came
    first. A task that is queued again is added to `requeue`.

    Returns:
        Whether the change was applied.
    """
    outcome = OUTCOMES[cause]
    sentence = detail or outcome.sentence
    if status == Status.PENDING_KILL:
        return change_status(
            session,
            task_id,
            Status.KILLED,
            attempt=attempt,
            at=at,
            machine_id=machine_id,
            cause=Cause.KILLED_BY_USER.value,
        )
    if outcome.resubmit and resubmit and attempt < limits.MAX_ATTEMPTS:
        again = change_status(
            session,
            task_id,
            Status.SUBMITTED,
            attempt=attempt,
            at=at,
            description=f"{sentence} Queued again as attempt {attempt + 1}.",
            next_attempt=attempt + 1,
            machine_id=machine_id,
            executer=None,
            start_time=None,
            computation_start_time=None,
            computation_end_time=None,
        )
        if again:
            requeue.append(task_id)
        return again
    return change_status(
        session,
        task_id,
        outcome.status,
        attempt=attempt,
        at=at,
        description=sentence,
        machine_id=machine_id,
        cause=cause.value,
        exit_code=exit_code,
        error_detail=None if cause is Cause.COMPLETED else sentence,
    )


def _set(session: Session, row: _Row, columns: dict[str, Any]) -> None:
    session.execute(
        update(Task)
        .where(Task.id == row.id, Task.attempt == row.attempt)
        .values(**columns)
        .execution_options(synchronize_session=False)
    )


def _merge_metrics(session: Session, row: _Row, values: dict[str, float]) -> None:
    known = session.scalar(select(Task.metrics).where(Task.id == row.id)) or {}
    _set(session, row, {"metrics": {**known, **values}})
