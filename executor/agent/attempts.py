"""The attempts of this machine: how one is made, and the threads that run them."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import redis

from executor.attempt.context import Attempt, MpiMachines, Reports, RunState
from executor.attempt.deadline import Deadline
from executor.attempt.recovery import Progress
from executor.attempt.run import run_attempt
from executor.attempt.stages.prepare import PULL_JOIN_S
from executor.attempt.stop import StopSwitch
from executor.machine.slots import Slot, Slots
from executor.machine.volumes import DiskError
from executor.transfer.client import open_client
from simherd.contract.attempt_spec import AttemptSpec
from simherd.contract.cause import OUTCOMES, Cause
from simherd.contract.reports import ReportKind
from simherd.runtime.logs import about, in_context

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from executor.agent.interruption import Interruption
    from executor.agent.live_files import LiveFiles
    from executor.agent.prefetch import Prefetch
    from executor.config import Config
    from executor.containers.base import ContainerBackend
    from executor.link.reporter import Reporter
    from executor.machine.machine import MachineResources
    from executor.mpi.coordinator import MpiCoordinator

log = logging.getLogger(__name__)


@dataclass
class AttemptFactory:
    """Makes attempts of this machine."""

    config: Config
    backend: ContainerBackend
    machine: MachineResources
    reporter: Reporter
    slots: Slots
    http: httpx.Client = field(default_factory=open_client)

    def make(
        self, spec: AttemptSpec, reports: Reports, progress: Progress | None = None
    ) -> Attempt:
        """Make an attempt that reports to `reports`; `progress`: how far an earlier agent got.
        Raises DiskError."""
        key, progress = spec.key, progress or Progress()

        def note(cause: Cause, discard: bool) -> None:
            self.reporter.note(key, cause=cause.value, discard=discard)

        switch = StopSwitch(note)
        attempt = Attempt(
            state=RunState(spec, switch.pause, started_at=progress.started_at),
            config=self.config,
            volume=self.machine.volume(key, keep=progress.computing or not progress.started),
            backend=self.backend,
            reporter=reports,
            http=self.http,
            switch=switch,
            deadline=Deadline(spec.warning.before_s, switch.wake),
            slot=Slot(self.slots),
            images=self.machine.images,
            progress=progress,
        )
        if progress.cause is Cause.SPOT_RECLAIMED:
            attempt.reclaim(progress.reclaim_at)
        elif progress.cause is not None:
            switch.trip(progress.cause, discard=progress.discard)
        return attempt


class LiveAttempts:
    """The attempts that run here, each with a thread."""

    def __init__(
        self,
        *,
        factory: AttemptFactory,
        coordinator: MpiCoordinator,
        interruption: Interruption,
        live_files: LiveFiles,
        on_end: Callable[[], None],
    ) -> None:
        """`on_end` is called when an attempt has ended."""
        self._factory = factory
        self._reporter = factory.reporter
        self._coordinator = coordinator
        self._interruption = interruption
        self._live_files = live_files
        self._on_end = on_end
        self._lock = threading.Lock()
        self._live: dict[str, Attempt] = {}
        self._workers: list[threading.Thread] = []
        #: Image pulls of attempts that were stopped.
        self._pulls: list[threading.Thread] = []

    def get(self, key: str) -> Attempt | None:
        """Return the attempt of this name, if it runs here."""
        with self._lock:
            return self._live.get(key)

    def all(self) -> list[Attempt]:
        """Return the attempts that run here, those included that only upload."""
        with self._lock:
            return list(self._live.values())

    def begin(
        self, key: str, text: str, progress: Progress, prefetch: Prefetch | None = None
    ) -> bool:
        """Start the thread of an attempt, `text` being its specification. Returns False, and
        reports the end, if the attempt cannot even be started."""
        try:
            spec = AttemptSpec.decode(text)
            if prefetch is None:
                attempt = self._factory.make(spec, self._reporter, progress)
            else:
                attempt = prefetch.take(spec, self._reporter)
            machines = self._coordinator.lead(attempt)
        except (ValueError, DiskError, OSError, redis.RedisError) as error:
            log.error("event=attempt_not_begun attempt=%s error=%s", key, error)
            self._reporter.report(key, ReportKind.STARTED, executer=None)
            self._report_failure(key, str(error))
            return False
        with about(attempt=key):
            run = in_context(self._run)
        worker = threading.Thread(target=run, args=(attempt, machines), name=f"attempt-{key}")
        with self._lock:
            self._live[key] = attempt
            self._workers = [w for w in self._workers if w.is_alive()]
            self._workers.append(worker)
        worker.start()
        self._interruption.attempt_started(attempt)
        return True

    def _run(self, attempt: Attempt, machines: MpiMachines | None) -> None:
        key = attempt.spec.key
        self._live_files.add(attempt)
        try:
            run_attempt(attempt, machines)
        except Exception as error:
            # Without a last report the task would never end.
            log.exception("event=attempt_broke attempt=%s", key)
            self._report_failure(key, f"{OUTCOMES[Cause.AGENT_ERROR].sentence[:-1]}: {error}")
        finally:
            self._live_files.drop(key)
            with self._lock:
                self._live.pop(key, None)
                pulls = [*self._pulls, *attempt.state.abandoned_threads]
                self._pulls = [thread for thread in pulls if thread.is_alive()]
            self._factory.slots.wake()
            if attempt.switch.cause is Cause.LEASE_LOST:
                self._reporter.forget(key)
            self._on_end()

    def _report_failure(self, key: str, detail: str) -> None:
        cause = Cause.AGENT_ERROR.value
        self._reporter.report(key, ReportKind.FINISHED, cause=cause, detail=detail)

    def stop(self) -> None:
        """Stop all attempts because the agent stops, and join their threads."""
        for attempt in self.all():
            attempt.switch.trip(Cause.AGENT_STOPPED)
        for worker in self._workers:
            worker.join()

    def close(self) -> None:
        """Close the connections, and join image pulls for a moment."""
        self._factory.http.close()
        for thread in self._pulls:
            thread.join(PULL_JOIN_S)
