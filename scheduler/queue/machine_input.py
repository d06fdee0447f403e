"""What machines write to Redis, as models with bounds: everything else is refused.

A machine's credentials may be stolen. Text is cut to the length that is stored, so that an honest
report with a long sentence is not lost; any other value out of bounds makes the whole input
invalid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from scheduler.queue.limits import CLOCK_AHEAD_S, MAX_REDIS_NAME
from simherd.contract.attempt_spec import PROTOCOL
from simherd.contract.cause import Cause
from simherd.contract.operations import Metric, Operation
from simherd.contract.reports import Report, ReportKind

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The earliest time that a report may carry, seconds since the epoch: the start of 2020.
EARLIEST_REPORT_S = 1_577_836_800.0

#: Characters of a sentence, and of a word such as a machine type, that are kept.
_SENTENCE, _WORD = 4000, 200
#: Depth and entries of an operation's attributes, and characters of a text among them: a command's
#: arguments are shown whole as far as a report has room for them.
_DEPTH, _ENTRIES, _ATTRIBUTE = 4, 256, 64 * 1024
#: The largest whole number that both databases store.
_LARGEST = 2**63 - 1
#: Seconds between the epoch and the year 2200: no deadline is later.
_LATEST_S = 7_258_118_400.0
#: Slots of one machine: more than cores of any.
_MOST_SLOTS = 1024


class InvalidMachineInput(ValueError):
    """Input of a machine is invalid; `reason` is a word to count it by."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _clean(value: Any, most: int) -> Any:
    """Text without NUL, which PostgreSQL does not store, and no longer than `most` characters."""
    return value[:most].replace("\0", "\ufffd") if isinstance(value, str) else value


def _attributes(value: Any, depth: int = _DEPTH) -> Any:
    """JSON within bounds."""
    if isinstance(value, str):
        return _clean(value, _ATTRIBUTE)
    if isinstance(value, float) and not -_LARGEST < value < _LARGEST:
        raise ValueError("a number that is not finite")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST:
        raise ValueError("a number that is too large")
    if isinstance(value, dict | list):
        if depth == 0 or len(value) > _ENTRIES:
            raise ValueError("more than an operation's attributes hold")
        if isinstance(value, list):
            return [_attributes(item, depth - 1) for item in value]
        return {_clean(k, _WORD): _attributes(v, depth - 1) for k, v in value.items()}
    return value


def _slots(value: Any) -> int:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 1 <= value <= _MOST_SLOTS else 1


Sentence = Annotated[str, BeforeValidator(lambda value: _clean(value, _SENTENCE))]
Word = Annotated[str, BeforeValidator(lambda value: _clean(value, _WORD))]
Count = Annotated[int, Field(ge=0, le=_LARGEST)]
Amount = Annotated[float, Field(ge=0, le=_LARGEST)]
Moment = Annotated[float, Field(ge=0, le=_LATEST_S)]
Attributes = Annotated[dict[str, Any], AfterValidator(_attributes)]


class _Input(BaseModel):
    # Fields of a later release are left out.
    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


class MachineFacts(_Input):
    """What a machine says about itself with its heartbeat."""

    backend: Word = ""
    disk_limit: Word = ""
    slots: int = Field(default=1, ge=1, le=_MOST_SLOTS)
    gpus: int = Field(default=0, ge=0, le=1024)
    draining: bool = False
    waits_for: Sentence | None = None
    cpu_percent: float | None = Field(default=None, ge=0, le=1e6)
    memory_used_bytes: Count | None = None
    disk_free_bytes: Count | None = None
    reclaim_at: Moment | None = None
    spot_notices_silent: bool = False
    reclaim_likely: bool = False


class _Executer(_Input):
    """The machine, as a task that runs there shows it."""

    uuid: Word | None = None
    cpu_count_logical: Count | None = None
    cpu_count_physical: Count | None = None
    memory: Count | None = None
    n_mpi_hosts: Count | None = None
    vm_type: Word = ""
    vm_name: Word | None = None
    error_detail: Sentence | None = None
    #: A value that is not a number of slots counts as 1: a price is divided by it.
    slots: Annotated[int, BeforeValidator(_slots)] = 1


class _Started(_Input):
    executer: _Executer | None = None


class _ComputationStarted(_Input):
    deadline: Moment | None = None
    money_until: Moment | None = None


class _Nothing(_Input):
    pass


class _OperationStarted(_Input):
    id: int = Field(ge=1, le=2**31 - 1)
    name: Word
    attributes: Attributes

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return Operation(name).value


class _OperationEnded(_Input):
    id: int = Field(ge=1, le=2**31 - 1)
    status: str = Field(pattern="^(OK|FAILED)$")
    attributes: Attributes


_METRICS = frozenset(metric.value for metric in Metric)


class _Metrics(_Input):
    metrics: dict[str, Any]

    @field_validator("metrics")
    @classmethod
    def _numbers(cls, metrics: dict[str, Any]) -> dict[str, float]:
        known = {name: value for name, value in metrics.items() if name in _METRICS}
        for name, value in known.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not 0 <= value <= _LARGEST:
                raise ValueError(f"{name} is not a number from 0 on")
        return known


class _Usage(_Input):
    cpu_seconds: Amount
    memory_bytes: Count
    processes: int = Field(ge=0, le=2**31 - 1)
    read_bytes: Count
    written_bytes: Count
    disk_bytes: Count


class _Observed(_Input):
    observer_id: str = Field(max_length=MAX_REDIS_NAME)
    captured: Attributes | None = None
    trouble: Sentence | None = None
    missed: Count | bool | None = None


class _Saved(_Input):
    generation: int | None = Field(default=None, ge=0, le=2**31 - 1)


class _Finished(_Input):
    cause: str
    detail: Sentence | None = None
    exit_code: int | None = Field(default=None, ge=-(2**31), le=2**31 - 1)
    saved: _Saved | None = None

    @field_validator("cause")
    @classmethod
    def _known(cls, cause: str) -> str:
        return Cause(cause).value


_BODIES: Mapping[ReportKind, type[_Input]] = {
    ReportKind.STARTED: _Started,
    ReportKind.COMPUTATION_STARTED: _ComputationStarted,
    ReportKind.COMPUTATION_ENDED: _Nothing,
    ReportKind.OPERATION_STARTED: _OperationStarted,
    ReportKind.OPERATION_ENDED: _OperationEnded,
    ReportKind.METRICS: _Metrics,
    ReportKind.USAGE: _Usage,
    ReportKind.OBSERVED: _Observed,
    ReportKind.FINISHED: _Finished,
}


class _Report(_Input):
    protocol: int
    kind: str
    task_id: str = Field(min_length=1, max_length=MAX_REDIS_NAME)
    attempt: int = Field(ge=1, le=2**31 - 1)
    number: int = Field(ge=1, le=2**31 - 1)
    at: float
    executor: str = Field(min_length=1, max_length=MAX_REDIS_NAME)
    body: dict[str, Any] = {}


def parse_facts(text: str) -> dict[str, Any]:
    """Return what a machine says about itself. Raises InvalidMachineInput."""
    try:
        return MachineFacts.model_validate_json(text).model_dump()
    except ValidationError as error:
        raise _invalid("facts", error) from error


def parse_report(text: str, now: float) -> Report:
    """Return an executor's report.

    `now`: seconds since the epoch; the report's time must not be far after it.

    Raises InvalidMachineInput: it is not a report of this protocol, or not within its bounds.
    """
    try:
        report = _Report.model_validate_json(text)
        if report.protocol != PROTOCOL:
            detail = f"protocol {report.protocol}, this scheduler speaks {PROTOCOL}"
            raise InvalidMachineInput("protocol", detail)
        kind = ReportKind(report.kind)
        body = _BODIES[kind].model_validate(report.body)
    except ValidationError as error:
        raise _invalid("report", error) from error
    except InvalidMachineInput:
        raise
    except ValueError as error:
        raise InvalidMachineInput("report", str(error)[:_WORD]) from error
    if not EARLIEST_REPORT_S <= report.at <= now + CLOCK_AHEAD_S:
        raise InvalidMachineInput("time", f"at: {report.at!r} is not a time that a report can have")
    return Report(
        kind=kind,
        task_id=report.task_id,
        attempt=report.attempt,
        number=report.number,
        at=report.at,
        executor=report.executor,
        # A field that the executor left out stays out, whatever its default.
        body=body.model_dump(exclude_unset=True),
        protocol=report.protocol,
    )


def _invalid(reason: str, error: ValidationError) -> InvalidMachineInput:
    row = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, row["loc"])) or "text"
    return InvalidMachineInput(reason, f"{where}: {row['msg']}"[:_WORD])
