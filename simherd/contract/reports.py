"""Reports of executors, numbered per attempt so that a repeated one changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from simherd.contract.attempt_spec import PROTOCOL, attempt_key, read_versioned
from simherd.contract.typed_json import to_json

#: The fields of a usage report.
USAGE_FIELDS = (
    "cpu_seconds",
    "memory_bytes",
    "processes",
    "read_bytes",
    "written_bytes",
    "disk_bytes",
)


class ReportKind(str, Enum):
    """The kind of a report; its `body` holds the details named here."""

    #: The attempt was started. executer: the machine's description.
    STARTED = "started"
    #: The first command is about to run. deadline, money_until: epoch seconds or null.
    COMPUTATION_STARTED = "computation_started"
    #: The last command has ended or was stopped.
    COMPUTATION_ENDED = "computation_ended"
    #: A stage began. id, name, attributes.
    OPERATION_STARTED = "operation_started"
    #: It ended. id, status, attributes.
    OPERATION_ENDED = "operation_ended"
    #: Measured values. metrics: name → number.
    METRICS = "metrics"
    #: The usage of the commands: USAGE_FIELDS, counters from the attempt's start.
    USAGE = "usage"
    #: An observer's file was found. observer_id; captured, or trouble: why the search has ended;
    #: with missed, the bytes that were not read at the end, a later attempt searches again.
    OBSERVED = "observed"
    #: The attempt ended; this is its last report. cause, detail, exit_code, output (stored or not).
    FINISHED = "finished"


@dataclass(frozen=True)
class Report:
    """One report. `at` is the executor's clock, seconds since the epoch."""

    kind: ReportKind
    task_id: str
    attempt: int
    number: int
    at: float
    executor: str
    body: dict[str, Any] = field(default_factory=dict)
    protocol: int = PROTOCOL

    @property
    def attempt_key(self) -> str:
        """Return the attempt's name."""
        return attempt_key(self.task_id, self.attempt)

    def encode(self) -> str:
        """Return the JSON that the stream of reports and the journal carry."""
        return to_json(self)

    @classmethod
    def decode(cls, text: str) -> Report:
        """Read what `encode` wrote.
        Raises WrongJson: it is not a report, or of another protocol version."""
        return read_versioned(cls, text)
