"""Apply executors' reports to SQL: in order, once, and only for the current attempt."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, or_, select, update

from scheduler.domain.ending import AttemptEnd
from scheduler.metrics.stages import note_stage, note_wait
from scheduler.services.attempts.end import end_attempt
from scheduler.services.attempts.rows import add_saved, open_attempt
from scheduler.services.billing.costs import max_cost_reached_at
from scheduler.store.models import GroupRow, StatusChange, TaskOperation, TaskRow, UsageSample
from scheduler.store.outbox import observed
from scheduler.store.transitions import change_status
from simherd.contract.cause import Cause
from simherd.contract.lifecycle import TERMINAL, Status
from simherd.contract.operations import Metric, Operation
from simherd.contract.reports import USAGE_FIELDS, Report, ReportKind

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from scheduler.store.unit_of_work import UnitOfWork


#: Seconds by which an executor's deadline may differ from SQL without being corrected.
_CLOCKS_DIFFER_S = 1.0


class Verdict(Enum):
    """The result of applying a report."""

    RECORDED = "recorded"
    #: SQL has it already.
    REPEATED = "repeated"
    #: An earlier report is missing; the executor will send both again.
    GAP = "gap"
    #: It is for an attempt that is no longer current: its sender must stop.
    FENCED = "fenced"
    #: It is for a task of another group, or from a machine that does not hold the attempt. It
    #: changes nothing, because the sender may have no right to the task.
    FOREIGN = "foreign"
    #: The task is being killed, and its holder must be ordered to stop.
    KILL = "kill"


@dataclass
class Recorded:
    """The verdict, the number of the attempt's last report in SQL, and what to do next."""

    verdict: Verdict
    last: int = 0
    requeue: list[str] = field(default_factory=list)
    #: With KILL: the outputs are not wanted.
    discard: bool = False
    #: Why the attempt ended, if the report ended it.
    ended: Cause | None = None
    #: The task's deadline, where the executor knows another one.
    deadline_at: float | None = None
    #: When the task's money is spent, where the executor knows another time.
    money_until: float | None = None


@dataclass
class _Row:
    """A task as this transaction has read it, and the columns that are still to be written."""

    id: str
    group_id: str
    attempt: int
    status: Status
    last_event: int
    #: The machine that took the current attempt up; None before that.
    machine_id: str | None
    discard_outputs: bool
    input_submit_time: float | None
    computation_start_time: float | None
    time_to_live_s: float | None
    deadline_at: float | None
    max_cost: float | None
    create_time: float
    queued_at: float | None
    metrics: dict[str, float]
    columns: dict[str, Any] = field(default_factory=dict)
    operations: dict[int, TaskOperation] = field(default_factory=dict)
    #: The history entry that new operations belong to, once it is known.
    history_id: int | None = None

    def measure(self, values: dict[str, float]) -> None:
        """Add measured values to the task's metrics."""
        self.metrics = {**self.metrics, **values}
        self.columns["metrics"] = self.metrics

    def taken_columns(self) -> dict[str, Any]:
        """Return the columns to write now, and clear them."""
        columns, self.columns = self.columns, {}
        return columns


class Recording:
    """Applies reports of one group in the caller's transaction; `finish` writes the rest.

    A task's row is read once, locked, and written only when its status changes: an attempt sends
    some twenty-five reports, and most of them come in one batch.
    """

    def __init__(
        self,
        session: UnitOfWork,
        group_id: str,
        machines: Collection[str],
        holders: Mapping[str, str],
    ) -> None:
        """`group_id`: the group whose machines have reported; `machines`: the senders that are
        machines of the group; `holders`: attempt → the machine that holds its lease, for attempts
        that begin.
        """
        self._session = session
        self._group_id = group_id
        self._machines = machines
        self._holders = holders
        self._rows: dict[str, _Row | None] = {}
        self._provider: str | None = None

    def record(self, event: Report) -> Recorded:
        """Apply one report."""
        row = self._row(event.task_id)
        is_own = row is not None and row.group_id == self._group_id
        if row is None or not is_own or event.executor not in self._machines:
            return Recorded(Verdict.FOREIGN)
        if event.attempt != row.attempt:
            return Recorded(Verdict.FENCED, event.number)
        if event.executor != self._holder(row, event):
            return Recorded(Verdict.FOREIGN, row.last_event)
        if event.number <= row.last_event:
            return Recorded(Verdict.REPEATED, row.last_event)
        if event.number > row.last_event + 1:
            return Recorded(Verdict.GAP, row.last_event)
        if row.status in TERMINAL:
            return Recorded(Verdict.FENCED, event.number)
        if row.machine_id is None:
            # From here on, reports of other machines about this attempt are refused.
            row.machine_id = event.executor
        row.last_event = row.columns["last_event"] = event.number
        result = Recorded(Verdict.RECORDED, event.number)
        if row.status == Status.PENDING_KILL and event.kind is ReportKind.STARTED:
            result.verdict, result.discard = Verdict.KILL, row.discard_outputs
        _APPLY[event.kind](self, row, event, result)
        return result

    def _holder(self, row: _Row, event: Report) -> str:
        """Return the machine that may report about a task's current attempt."""
        if row.machine_id is not None:
            return row.machine_id
        # Redis may have lost the lease: its holder presents it with the next heartbeat.
        return self._holders.get(event.attempt_key, event.executor)

    def finish(self) -> None:
        """Write the columns that no status change has written."""
        for row in self._rows.values():
            if row is not None and row.columns:
                self._write(row)

    def _write(self, row: _Row) -> None:
        self._session.execute(
            update(TaskRow)
            .where(TaskRow.id == row.id, TaskRow.attempt == row.attempt)
            .values(**row.taken_columns(), machine_id=row.machine_id)
            .execution_options(synchronize_session=False)
        )

    def _row(self, task_id: str) -> _Row | None:
        if task_id not in self._rows:
            self._rows[task_id] = self._load(task_id)
        return self._rows[task_id]

    def _load(self, task_id: str) -> _Row | None:
        row = self._session.execute(
            select(
                TaskRow.id,
                TaskRow.group_id,
                TaskRow.attempt,
                TaskRow.status,
                TaskRow.last_event,
                case(
                    (
                        or_(TaskRow.start_time.is_not(None), TaskRow.last_event > 0),
                        TaskRow.machine_id,
                    )
                ).label("machine_id"),
                TaskRow.discard_outputs,
                TaskRow.input_submit_time,
                TaskRow.computation_start_time,
                TaskRow.time_to_live_s,
                TaskRow.deadline_at,
                TaskRow.max_cost,
                TaskRow.create_time,
                TaskRow.queued_at,
                TaskRow.metrics,
            )
            .where(TaskRow.id == task_id)
            .with_for_update()
        ).one_or_none()
        if row is None:
            return None
        values = row._asdict()
        return _Row(**{**values, "status": Status(values["status"])})

    def _move(self, row: _Row, event: Report, to: Status) -> None:
        # The stages of a task that is being killed are measured, and do not show in its status.
        if row.status == Status.PENDING_KILL:
            return
        columns = row.taken_columns()
        applied = change_status(
            self._session,
            row.id,
            to,
            attempt=row.attempt,
            at=event.at,
            machine_id=event.executor,
            **columns,
        )
        if applied:
            row.status, row.history_id = to, None
        else:
            # Its number counts all the same, or every later report would be a gap.
            row.columns = columns

    def _started(self, row: _Row, event: Report, _result: Recorded) -> None:
        if self._provider is None:
            self._provider = self._session.scalar(
                select(GroupRow.wire_provider).where(GroupRow.id == self._group_id)
            )
        waited = event.at - (row.input_submit_time or row.create_time)
        row.measure({Metric.QUEUE_TIME_SECONDS.value: round(max(0.0, waited), 6)})
        note_wait(self._session, event.at - (row.queued_at or row.create_time))
        executer = event.body.get("executer") or {}
        open_attempt(
            self._session, row.id, row.attempt, event.executor, event.at, executer.get("slots")
        )
        row.columns |= {
            "executer": {**executer, "host_type": self._provider},
            "start_time": event.at,
        }
        if row.status == Status.PENDING_KILL:
            self._write(row)
        self._move(row, event, Status.STARTED)

    def _computation_started(self, row: _Row, event: Report, result: Recorded) -> None:
        row.computation_start_time = row.columns["computation_start_time"] = event.at
        if row.time_to_live_s is not None:
            if row.deadline_at is None:
                row.deadline_at = row.columns["deadline_at"] = event.at + row.time_to_live_s
            # The task may have been extended after its attempt was handed over.
            if abs((event.body.get("deadline") or 0) - row.deadline_at) > _CLOCKS_DIFFER_S:
                result.deadline_at = row.deadline_at
        if row.max_cost is not None:
            until = max_cost_reached_at(self._session, row.id, row.attempt, row.max_cost)
            # The executor does not know the price of its machine.
            if until and abs((event.body.get("money_until") or 0) - until) > _CLOCKS_DIFFER_S:
                result.money_until = until
        self._move(row, event, Status.COMPUTATION_STARTED)

    def _computation_ended(self, row: _Row, event: Report, _result: Recorded) -> None:
        row.columns["computation_end_time"] = event.at
        if row.computation_start_time is not None:
            seconds = round(max(0.0, event.at - row.computation_start_time), 6)
            row.measure({Metric.COMPUTATION_SECONDS.value: seconds})
        self._move(row, event, Status.COMPUTATION_ENDED)

    def _operation_started(self, row: _Row, event: Report, _result: Recorded) -> None:
        if row.history_id is None:
            self._session.flush()
            row.history_id = self._session.scalars(
                select(StatusChange.id)
                .where(StatusChange.task_id == row.id)
                .order_by(StatusChange.id.desc())
                .limit(1)
            ).one()
        operation = TaskOperation(
            task_id=row.id,
            attempt=row.attempt,
            number=event.body["id"],
            status_change_id=row.history_id,
            name=event.body["name"],
            status="RUNNING",
            started_at=event.at,
            attributes=event.body["attributes"],
        )
        row.operations[operation.number] = operation
        self._session.add(operation)

    def _operation_ended(self, row: _Row, event: Report, _result: Recorded) -> None:
        number = event.body["id"]
        operation = row.operations.get(number) or self._session.scalar(
            select(TaskOperation).where(
                TaskOperation.task_id == row.id,
                TaskOperation.attempt == row.attempt,
                TaskOperation.number == number,
            )
        )
        if operation is not None:
            operation.status = event.body["status"]
            operation.ended_at = event.at
            operation.attributes = {**operation.attributes, **event.body["attributes"]}
            note_stage(self._session, operation, row.metrics)
            if (operation.name, operation.status) == (Operation.UPLOAD_OUTPUT.value, "OK"):
                size = row.metrics.get(Metric.OUTPUT_ZIPPED_SIZE_BYTES.value)
                add_saved(self._session, row.id, row.attempt, output_bytes=size)

    def _metrics(self, row: _Row, event: Report, _result: Recorded) -> None:
        row.measure(event.body["metrics"])

    def _usage(self, row: _Row, event: Report, _result: Recorded) -> None:
        usage = {name: event.body[name] for name in USAGE_FIELDS}
        self._session.add(UsageSample(task_id=row.id, attempt=row.attempt, at=event.at, **usage))

    def _observed(self, row: _Row, event: Report, _result: Recorded) -> None:
        observed(self._session, row.id, row.attempt, event.at, event.body)

    def _finished(self, row: _Row, event: Report, result: Recorded) -> None:
        total = round(max(0.0, event.at - row.create_time), 6)
        row.measure({Metric.TOTAL_SECONDS.value: total})
        cause = Cause(event.body["cause"])
        generation = (event.body.get("saved") or {}).get("generation")
        if generation is not None:
            add_saved(self._session, row.id, row.attempt, generation=generation)
        columns = row.taken_columns()
        ended = end_attempt(
            self._session,
            row.id,
            row.attempt,
            AttemptEnd(
                cause,
                event.at,
                event.executor,
                detail=event.body.get("detail"),
                exit_code=event.body.get("exit_code"),
            ),
            **columns,
        )
        if ended is None:
            row.columns = columns
        else:
            row.status, result.ended = ended, cause
        if ended == Status.SUBMITTED:
            result.requeue.append(row.id)
            # It has another attempt now, which is read when a report about it comes.
            del self._rows[row.id]


_APPLY = {
    ReportKind.STARTED: Recording._started,
    ReportKind.COMPUTATION_STARTED: Recording._computation_started,
    ReportKind.COMPUTATION_ENDED: Recording._computation_ended,
    ReportKind.OPERATION_STARTED: Recording._operation_started,
    ReportKind.OPERATION_ENDED: Recording._operation_ended,
    ReportKind.METRICS: Recording._metrics,
    ReportKind.USAGE: Recording._usage,
    ReportKind.OBSERVED: Recording._observed,
    ReportKind.FINISHED: Recording._finished,
}
