"""How far an earlier agent got with an attempt, read from its reports. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from executor.containers.base import Exit
from simherd.contract.cause import Cause
from simherd.contract.operations import Operation
from simherd.contract.reports import Report, ReportKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True)
class OpenOperation:
    """An operation that has not ended: its number, and when it began (epoch seconds)."""

    number: int
    at: float
    name: str


@dataclass(frozen=True)
class Progress:
    """What an earlier agent completed; the default is a new attempt."""

    #: When the attempt was started, seconds since the epoch; None: it was not.
    started_at: float | None = None
    computing: bool = False
    computed: bool = False
    stored: bool = False
    #: Seconds since the epoch.
    deadline: float | None = None
    money_until: float | None = None
    #: How many commands have ended, and how the last one ended.
    commands: int = 0
    last_exit: Exit | None = None
    #: The command that was running.
    command: OpenOperation | None = None
    #: Other operations that were open: they begin again.
    cut: tuple[OpenOperation, ...] = ()
    next_operation: int = 1
    #: Why the attempt was being stopped, and whether its outputs are discarded.
    cause: Cause | None = None
    discard: bool = False
    #: When the machine is reclaimed, seconds since the epoch, if that is the cause.
    reclaim_at: float = 0.0
    #: The id of the upload in parts that was open.
    upload: str | None = None
    #: The generation of the checkpoint that the attempt continues from.
    restored: int | None = None

    @property
    def started(self) -> bool:
        """Whether the attempt was started."""
        return self.started_at is not None


def exit_attributes(ended: Exit) -> dict[str, Any]:
    """Return the exit of a command as attributes of its operation."""
    optional = {"signal": ended.signal, "oom": ended.oom, "message": ended.message}
    return {"exit_code": ended.code} | {name: value for name, value in optional.items() if value}


def progress_of(reports: Iterable[Report], notes: Mapping[str, Any]) -> Progress:
    """Return how far an attempt got, by its reports in order and the agent's notes."""
    kinds: dict[ReportKind, Report] = {}
    begun: dict[int, OpenOperation] = {}
    last_exit, commands, number, stored = None, 0, 0, False
    for report in reports:
        kinds[report.kind] = report
        if report.kind is ReportKind.OPERATION_STARTED:
            number = report.body["id"]
            begun[number] = OpenOperation(number, report.at, report.body["name"])
        elif report.kind is ReportKind.OPERATION_ENDED:
            ended = begun.pop(report.body["id"], None)
            attributes = report.body["attributes"]
            if ended and ended.name == Operation.EXEC_COMMAND and "exit_code" in attributes:
                commands += 1
                last_exit = Exit(
                    attributes["exit_code"],
                    attributes.get("signal"),
                    attributes.get("oom", False),
                    attributes.get("message", ""),
                )
            stored = bool(
                stored
                or (
                    ended
                    and ended.name == Operation.UPLOAD_OUTPUT
                    and report.body["status"] == "OK"
                )
            )
    cause = notes.get("cause")
    computing = kinds.get(ReportKind.COMPUTATION_STARTED)
    limits = computing.body if computing else {}
    command = next((b for b in begun.values() if b.name == Operation.EXEC_COMMAND), None)
    return Progress(
        started_at=kinds[ReportKind.STARTED].at if ReportKind.STARTED in kinds else None,
        computing=computing is not None,
        computed=ReportKind.COMPUTATION_ENDED in kinds,
        stored=stored,
        deadline=notes.get("deadline", limits.get("deadline")),
        money_until=notes.get("money_until", limits.get("money_until")),
        commands=commands,
        last_exit=last_exit,
        command=command,
        cut=tuple(b for b in begun.values() if b is not command),
        next_operation=number + 1,
        cause=Cause(cause) if cause else None,
        discard=bool(notes.get("discard")),
        reclaim_at=notes.get("reclaim_at", 0.0),
        upload=notes.get("upload"),
        restored=notes.get("restored"),
    )
