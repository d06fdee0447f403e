"""One attempt on this machine: what its agent gave it, and what became of it so far."""

from __future__ import annotations

import itertools
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from executor.attempt.checkpointer import Checkpointer
from executor.attempt.file_observers import FileObservers
from executor.attempt.peak_usage import PeakUsage
from executor.attempt.reclaim_timetable import Timetable
from executor.observability import table
from executor.observability.instruments import observe
from executor.transfer.client import TransferClient
from simherd.contract.cause import Cause
from simherd.contract.objects import STDERR, STDOUT
from simherd.contract.reports import ReportKind

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx

    from executor.attempt.deadline import Deadline
    from executor.attempt.recovery import OpenOperation, Progress
    from executor.attempt.stop import StopSwitch
    from executor.config import Config
    from executor.containers.base import ContainerBackend, ContainerSpec, Exit, Running
    from executor.machine.image_cache import ImageCache
    from executor.machine.slots import Slot
    from executor.machine.volumes import Volume
    from simherd.contract.attempt_spec import AttemptSpec, Command
    from simherd.contract.operations import Metric, Operation


#: Seconds to save an attempt's work when another of its machines is reclaimed.
_OTHER_RECLAIMED_S = 30.0


class Reports(Protocol):
    """The receiver of an attempt's reports."""

    def report(self, attempt: str, kind: ReportKind, at: float | None = None, **body: Any) -> None:
        """Send a report to the scheduler; returns at once."""

    def note(self, attempt: str, **notes: Any) -> None:
        """Keep what a restarted agent needs to know."""


class MpiMachines(Protocol):
    """The machines of an MPI group, as the stages of the attempt see them."""

    def gather(self) -> None:
        """Ask the other machines to prepare. Raises StageFailed."""

    def wait(self) -> None:
        """Wait until all machines are ready. Raises Stopped."""

    def add_mpi_mounts(self, spec: ContainerSpec, index: int) -> ContainerSpec:
        """Return the container of the command `index` with the way to the other machines."""

    def diagnose_failure(self) -> None:
        """Stop the attempt if a machine, not the command itself, made the command fail."""

    def disband(self) -> None:
        """Release the other machines; a second call changes nothing."""


@dataclass
class RunState:
    """What becomes of an attempt. Only `Attempt` and the stages of executor/attempt write to it."""

    spec: AttemptSpec
    #: How transfers wait, and when they give up.
    pause: Callable[[float], None]
    #: Waits for the prefetched image and inputs; None: nothing was prefetched.
    prefetched: Callable[[], None] | None = None
    #: Seconds since the epoch: the attempt's cost counts from here. None: not started.
    started_at: float | None = None
    #: Files as they were before the first command: what has not changed is not an output.
    inputs: dict[str, Any] = field(default_factory=dict)
    #: The generation of the checkpoint that the attempt continues from.
    restored: int | None = None
    peaks: PeakUsage = field(default_factory=PeakUsage)
    #: The command that runs now.
    running: Running | None = None
    last_exit: Exit | None = None
    #: The time left until the machine is reclaimed, once a notice came.
    timetable: Timetable | None = None
    #: A cause that stops the attempt, and the sentence that explains it.
    stop_detail: tuple[Cause, str] | None = None
    #: The cause that the attempt ends with, and a sentence; None until a stage decides.
    cause: Cause | None = None
    detail: str | None = None
    exit_code: int | None = None
    #: What was stored, for the last report.
    saved: dict[str, Any] = field(default_factory=dict)
    #: Threads that outlive the attempt; the agent joins them.
    abandoned_threads: list[threading.Thread] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Attempt:
    """What an attempt is given by its agent, and its `state`."""

    state: RunState
    config: Config
    volume: Volume
    backend: ContainerBackend
    reporter: Reports
    http: httpx.Client
    switch: StopSwitch
    deadline: Deadline
    slot: Slot
    images: ImageCache
    #: What an earlier agent did of it.
    progress: Progress

    def __post_init__(self) -> None:
        # Made now, because several threads use them.
        for name in ("transfer", "checkpointer", "observers", "_numbers"):
            getattr(self, name)

    @property
    def spec(self) -> AttemptSpec:
        """The attempt's specification, as it was claimed."""
        return self.state.spec

    @property
    def image(self) -> str:
        """The container image of its commands."""
        return self.spec.image

    @cached_property
    def transfer(self) -> TransferClient:
        """Downloads and uploads of this attempt."""
        return TransferClient(self.http, lambda seconds: self.state.pause(seconds))

    @cached_property
    def checkpointer(self) -> Checkpointer | None:
        """Saves checkpoints, if the task has some."""
        checkpoints = self.spec.checkpoints
        return None if checkpoints is None else Checkpointer(self, checkpoints)

    @cached_property
    def observers(self) -> FileObservers:
        """Looks for files while the commands run."""
        return FileObservers(self)

    @cached_property
    def _numbers(self) -> Iterator[int]:
        return itertools.count(self.progress.next_operation)

    @property
    def commands(self) -> tuple[Command, ...]:
        """The task's commands, or those that continue from a checkpoint."""
        restore = self.spec.restore if self.state.restored is not None else ()
        return restore or self.spec.commands

    def take_up(self, spec: AttemptSpec, prefetched: Callable[[], None]) -> None:
        """Start a prefetched attempt: `spec` is the specification of its claim."""
        self.state.spec, self.state.prefetched = spec, prefetched
        self.state.started_at = time.time()

    def stop(self, cause: Cause, detail: str | None = None, *, discard: bool = False) -> None:
        """Stop the attempt; `detail` explains to users why it ended, if this ends it."""
        if detail is not None and self.switch.cause is None:
            self.state.stop_detail = (cause, detail)
        if cause is Cause.SPOT_RECLAIMED:
            # Another machine of the MPI group is reclaimed; this one stays.
            if self.state.timetable is None:
                self.reclaim(time.time() + _OTHER_RECLAIMED_S)
            return
        # Another attempt makes the outputs again.
        is_repeated = cause is Cause.MACHINE_LOST and self.spec.resubmit
        self.switch.trip(cause, discard=discard or is_repeated)

    def reclaim(self, reclaim_at: float) -> None:
        """Hand the attempt back: the machine goes at `reclaim_at`, seconds since the epoch."""
        self.state.timetable = Timetable(reclaim_at)
        self.note(reclaim_at=reclaim_at)
        self.switch.trip(Cause.SPOT_RECLAIMED)

    @contextmanager
    def paused_by(self, pause: Callable[[float], None]) -> Iterator[None]:
        """Let `pause` decide within the block how transfers wait and when they give up."""
        before, self.state.pause = self.state.pause, pause
        try:
            yield
        finally:
            self.state.pause = before

    @property
    def folder(self) -> Path:
        """The attempt's folder on its volume."""
        return self.volume.folder

    @property
    def series(self) -> Path:
        """The file of resource samples; not on the volume, which may be full."""
        return self.config.state_dir / "series" / f"{self.folder.name}.csv"

    @property
    def memory_limit(self) -> int:
        """The memory limit of each container, bytes; 0: unlimited."""
        config = self.config
        return config.policy.memory_bytes or config.memory_bytes // config.slots

    @property
    def work(self) -> Path:
        """The work folder: the only one that the simulation can write to."""
        return self.folder / "work"

    @property
    def stamps(self) -> Path:
        """The file that keeps `state.inputs` for a restarted agent."""
        return self.folder / "inputs.json"

    @property
    def stdout(self) -> Path:
        """The file of the commands' standard output."""
        return self.work / STDOUT

    @property
    def stderr(self) -> Path:
        """The file of the commands' standard error."""
        return self.work / STDERR

    def report(self, kind: ReportKind, **body: Any) -> None:
        """Send a report to the scheduler."""
        self.reporter.report(self.spec.key, kind, **body)

    def report_metrics(self, **values: float) -> None:
        """Report measured values by their metric names."""
        self.report(ReportKind.METRICS, metrics=values)

    def note(self, **notes: Any) -> None:
        """Keep what a restarted agent must know."""
        self.reporter.note(self.spec.key, **notes)

    def move_deadline(self, at: float, cause: Cause) -> None:
        """Move the limit that ends the attempt with `cause` to `at`, seconds since the epoch."""
        self.note(**{"money_until" if cause is Cause.COST_LIMIT else "deadline": at})
        self.deadline.set(at, cause)

    def close_operations(self) -> None:
        """End the operations that were open when an earlier agent crashed."""
        for operation in self.progress.cut:
            self.end_operation(operation.number, "FAILED", {})

    def begin_operation(self, name: Operation, **attributes: Any) -> int:
        """Report the start of an operation; returns its number."""
        number = next(self._numbers)
        self.report(ReportKind.OPERATION_STARTED, id=number, name=name.value, attributes=attributes)
        return number

    def end_operation(self, number: int, status: str, attributes: dict[str, Any]) -> None:
        """Report the end of an operation: OK or FAILED, and attributes known only now."""
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
        """Time an operation: report its start, its end, and its length as the metric `seconds`.

        The block adds to the yielded dictionary what is known only at the end. `resumed`: the
        operation that an earlier agent began and that continues.
        """
        begun = time.monotonic()
        if resumed is not None:
            number = resumed.number
            begun -= max(0.0, time.time() - resumed.at)
        else:
            number = self.begin_operation(name, **attributes)
        result: dict[str, Any] = {}
        status = "FAILED"
        try:
            yield result
            status = "OK"
        finally:
            length = round(time.monotonic() - begun, 6)
            result["execution_time_s"] = length
            self.end_operation(number, status, result)
            observe(table.STAGE_SECONDS, length, name.value)
            if seconds is not None:
                self.report_metrics(**{seconds.value: length})
