"""One attempt on this machine: its specification, its folders, its reports."""

from __future__ import annotations

import itertools
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from executor.attempt.checkpointer import Checkpointer
from executor.attempt.file_observers import FileObservers
from executor.attempt.peak_usage import PeakUsage
from executor.attempt.reclaim_timetable import Timetable
from executor.observability import table
from executor.observability.instruments import observe
from simherd.contract.cause import Cause
from simherd.contract.objects import STDERR, STDOUT
from simherd.contract.reports import ReportKind

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from executor.attempt.deadline import Deadline
    from executor.attempt.recovery import OpenOperation, Progress
    from executor.attempt.stop import StopSwitch
    from executor.config import Config
    from executor.containers.base import ContainerBackend, Running
    from executor.machine.image_cache import ImageCache
    from executor.machine.slots import Slot
    from executor.machine.volumes import Volume
    from executor.mpi.leader import MpiLeader
    from executor.transfer.client import TransferClient
    from simherd.contract.attempt_spec import AttemptSpec, Command
    from simherd.contract.operations import Metric, Operation


#: Seconds for saving what is to be saved of an attempt that lost another of its machines.
_OTHER_GONE_S = 30.0


class StageFailed(Exception):
    """A stage could not do its work; `cause` says which ending that is."""

    def __init__(self, cause: Any, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause
        self.detail = detail


class Reports(Protocol):
    """Where an attempt's reports go."""

    def report(self, attempt: str, kind: ReportKind, at: float | None = None, **body: Any) -> None:
        """Tell the scheduler; returns at once."""

    def note(self, attempt: str, **notes: Any) -> None:
        """Keep what only an agent needs to know."""


@dataclass
class Attempt:
    """What the stages of one attempt share."""

    spec: AttemptSpec
    config: Config
    area: Volume
    backend: ContainerBackend
    reporter: Reports
    transfer: TransferClient
    switch: StopSwitch
    deadline: Deadline
    slot: Slot
    images: ImageCache
    #: What an earlier agent did of it.
    progress: Progress
    #: Files as they were before the first command: what is still so is no output.
    inputs: dict[str, Any] = field(default_factory=dict)
    #: Waits for what was begun to be fetched before it was claimed.
    fetching: Callable[[], None] | None = None
    #: The most that its commands had of each resource.
    peaks: PeakUsage = field(default_factory=PeakUsage)
    #: How the time is spent until the machine goes, once that is known.
    times: Timetable | None = None
    #: The generation of the checkpoint that it goes on from.
    restored: int | None = None
    #: What of it was stored, for its last report.
    saved: dict[str, Any] = field(default_factory=dict)
    #: The command that runs.
    running: Running | None = None
    #: The machines that work on it together, where it has more than this one.
    gang: MpiLeader | None = None
    #: A cause that stops it, and a sentence about that.
    told: tuple[Cause, str] | None = None
    #: Threads that outlive the attempt; the agent joins them.
    left_behind: list[threading.Thread] = field(default_factory=list)
    #: When it was taken up, seconds since the epoch: what it costs counts from here.
    started_at: float = 0.0
    #: Saves its checkpoints, where the task has some.
    saver: Checkpointer | None = field(init=False)
    #: Looks for files while the commands run.
    observers: FileObservers = field(init=False)
    _numbers: Iterator[int] = field(init=False)

    def __post_init__(self) -> None:
        self._numbers = itertools.count(self.progress.next_operation)
        wanted = self.spec.checkpoints
        self.saver = Checkpointer(self, wanted) if wanted is not None else None
        self.observers = FileObservers(self)

    @property
    def commands(self) -> tuple[Command, ...]:
        """What runs: the task's commands, or those for going on from a checkpoint."""
        again = self.spec.restore if self.restored is not None else ()
        return again or self.spec.commands

    def stop(self, cause: Cause, detail: str | None = None, *, discard: bool = False) -> None:
        """Stop it; `detail` is the sentence that people read where this is why it ended."""
        if detail is not None and self.switch.cause is None:
            self.told = (cause, detail)
        if cause is Cause.SPOT_RECLAIMED:
            # Another machine has gone that it needs; this one stays.
            if self.times is None:
                self.reclaim(time.time() + _OTHER_GONE_S)
            return
        # Another attempt makes the outputs anew.
        again = cause is Cause.MACHINE_LOST and self.spec.resubmit
        self.switch.trip(cause, discard=discard or again)

    def reclaim(self, reclaim_at: float) -> None:
        """The machine goes at this moment, seconds since the epoch: hand the attempt back."""
        self.times = Timetable(reclaim_at)
        self.note(reclaim_at=reclaim_at)
        self.switch.trip(Cause.SPOT_RECLAIMED)

    @property
    def folder(self) -> Path:
        """All that it has on this machine's disk, within its limit."""
        return self.area.folder

    @property
    def series(self) -> Path:
        """Where the series of what it uses is kept: apart, because its own disk may be full."""
        return self.config.state_dir / "series" / f"{self.folder.name}.csv"

    @property
    def memory_limit(self) -> int:
        """What each of its containers may have, bytes; 0 is no limit."""
        config = self.config
        return config.policy.memory_bytes or config.memory_bytes // config.slots

    @property
    def work(self) -> Path:
        """The work folder: the only one that the simulation can write to."""
        return self.folder / "work"

    @property
    def stamps(self) -> Path:
        """Where `inputs` are kept for a later agent."""
        return self.folder / "inputs.json"

    @property
    def stdout(self) -> Path:
        """Where the commands' standard output goes."""
        return self.work / STDOUT

    @property
    def stderr(self) -> Path:
        """Where the commands' standard error goes."""
        return self.work / STDERR

    def report(self, kind: ReportKind, **body: Any) -> None:
        """Tell the scheduler."""
        self.reporter.report(self.spec.key, kind, **body)

    def measured(self, **values: float) -> None:
        """Tell the scheduler measured values by their metric names."""
        self.report(ReportKind.METRICS, metrics=values)

    def note(self, **notes: Any) -> None:
        """Keep what the next agent must know, should this one break down."""
        self.reporter.note(self.spec.key, **notes)

    def move_deadline(self, at: float, cause: Cause) -> None:
        """Let the limit that ends it with `cause` be at this moment, seconds since the epoch."""
        self.note(**{"money_until" if cause is Cause.COST_LIMIT else "deadline": at})
        self.deadline.set(at, cause)

    def close_operations(self) -> None:
        """End the operations in which an earlier agent broke down."""
        for cut in self.progress.cut:
            self.end_operation(cut.number, "FAILED", {})

    def begin_operation(self, name: Operation, **attributes: Any) -> int:
        """Report that something began; answers its number."""
        number = next(self._numbers)
        self.report(ReportKind.OPERATION_STARTED, id=number, name=name.value, attributes=attributes)
        return number

    def end_operation(self, number: int, status: str, attributes: dict[str, Any]) -> None:
        """Report its end: OK or FAILED, and what is known only now."""
        self.report(ReportKind.OPERATION_ENDED, id=number, status=status, attributes=attributes)

    @contextmanager
    def operation(
        self,
        name: Operation,
        seconds: Metric | None = None,
        *,
        resumed: OpenOperation | None = None,
        **attributes: Any,
    ) -> Iterator[dict[str, Any]]:
        """Time a stage: report its start and its end, and its length as the metric `seconds`.

        The block adds to the yielded dictionary what is known only at the end. `resumed`: the
        operation that an earlier agent has begun and that goes on.
        """
        begun = time.monotonic()
        if resumed is not None:
            number = resumed.number
            begun -= max(0.0, time.time() - resumed.at)
        else:
            number = self.begin_operation(name, **attributes)
        learnt: dict[str, Any] = {}
        status = "FAILED"
        try:
            yield learnt
            status = "OK"
        finally:
            length = round(time.monotonic() - begun, 6)
            learnt["execution_time_s"] = length
            self.end_operation(number, status, learnt)
            observe(table.STAGE_SECONDS, length, name.value)
            if seconds is not None:
                self.measured(**{seconds.value: length})
