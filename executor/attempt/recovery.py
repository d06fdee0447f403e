"""How far an earlier agent got with an attempt, read from what it reported. Pure."""

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
    """What is done already; a new attempt has done nothing."""

    #: When it was taken up, seconds since the epoch; None: it was not.
    started_at: float | None = None
    computing: bool = False
    computed: bool = False
    stored: bool = False
    #: Seconds since the epoch.
    deadline: float | None = None
    money_until: float | None = None
    #: How many commands have ended, and how the last one did.
    commands: int = 0
    last_exit: Exit | None = None
    #: The command that had begun.
    command: OpenOperation | None = None
    #: Other operations that had begun: they are begun again.
    cut: tuple[OpenOperation, ...] = ()
    next_operation: int = 1
    #: Why it was to be stopped, and whether its outputs are wanted.
    cause: Cause | None = None
    discard: bool = False
    #: When the machine goes, epoch seconds, where it was to be stopped for that.
    reclaim_at: float = 0.0
    #: The upload in parts that was begun.
    upload: str | None = None
    #: The generation of the checkpoint that it goes on from.
    restored: int | None = None

    @property
    def started(self) -> bool:
        """Whether it was taken up."""
        return self.started_at is not None


def exit_attributes(ended: Exit) -> dict[str, Any]:
    """How a command ended, as its operation tells it."""
    told = {"signal": ended.signal, "oom": ended.oom, "message": ended.message}
    return {"exit_code": ended.code} | {name: value for name, value in told.items() if value}


def progress_of(events: Iterable[Report], notes: Mapping[str, Any]) -> Progress:
    """How far it got, by its reports in order and the agent's notes."""
    kinds: dict[ReportKind, Report] = {}
    begun: dict[int, OpenOperation] = {}
    last_exit, commands, number, stored = None, 0, 0, False
    for event in events:
        kinds[event.kind] = event
        if event.kind is ReportKind.OPERATION_STARTED:
            number = event.body["id"]
            begun[number] = OpenOperation(number, event.at, event.body["name"])
        elif event.kind is ReportKind.OPERATION_ENDED:
            over = begun.pop(event.body["id"], None)
            told = event.body["attributes"]
            if over and over.name == Operation.EXEC_COMMAND and "exit_code" in told:
                commands += 1
                last_exit = Exit(
                    told["exit_code"],
                    told.get("signal"),
                    told.get("oom", False),
                    told.get("message", ""),
                )
            stored = bool(
                stored
                or (over and over.name == Operation.UPLOAD_OUTPUT and event.body["status"] == "OK")
            )
    cause = notes.get("cause")
    computing = kinds.get(ReportKind.COMPUTATION_STARTED)
    told_start = computing.body if computing else {}
    command = next((b for b in begun.values() if b.name == Operation.EXEC_COMMAND), None)
    return Progress(
        started_at=kinds[ReportKind.STARTED].at if ReportKind.STARTED in kinds else None,
        computing=computing is not None,
        computed=ReportKind.COMPUTATION_ENDED in kinds,
        stored=stored,
        deadline=notes.get("deadline", told_start.get("deadline")),
        money_until=notes.get("money_until", told_start.get("money_until")),
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
