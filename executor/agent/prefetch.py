"""Fetching the image and inputs of the next attempt while all slots of this machine are busy.

The attempt stays in the queue, and the first free machine claims it. If this machine does, it need
not wait for the inputs; if another machine does, or the task is killed, they are dropped.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil

from executor.attempt.stages.prepare import PULL_JOIN_S, fetch
from executor.attempt.stages.start import describe_machine
from simherd.contract.cause import Cause
from simherd.contract.reports import ReportKind
from simherd.runtime.logs import about, in_context

if TYPE_CHECKING:
    from executor.attempt.context import Attempt, Reports
    from simherd.contract.attempt_spec import AttemptSpec

log = logging.getLogger(__name__)


class HeldReports:
    """Keeps the reports of an attempt until this machine claims it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[tuple[str, ReportKind, float, dict[str, Any]]] = []
        self._reports: Reports | None = None

    def report(self, attempt: str, kind: ReportKind, at: float | None = None, **body: Any) -> None:
        with self._lock:
            if self._reports is None:
                self._kept.append((attempt, kind, time.time() if at is None else at, body))
            else:
                self._reports.report(attempt, kind, at, **body)

    def note(self, attempt: str, **notes: Any) -> None:
        """See `Reports`. Before the claim, nothing must survive this agent."""
        with self._lock:
            if self._reports is not None:
                self._reports.note(attempt, **notes)

    def bind(self, reports: Reports) -> None:
        """Send the reports that were kept, and send later ones at once."""
        with self._lock:
            for attempt, kind, at, body in self._kept:
                reports.report(attempt, kind, at, **body)
            self._reports = reports


class Prefetch:
    """One attempt whose image and inputs are being fetched, or were fetched."""

    def __init__(self, attempt: Attempt, reports: HeldReports) -> None:
        self.attempt = attempt
        self._reports = reports
        self._lock = threading.Lock()
        self._is_over = self._is_dropped = False
        self._error: Exception | None = None
        with about(attempt=attempt.spec.key):
            run = in_context(self._run)
        self._thread = threading.Thread(target=run, name=f"prefetch-{attempt.spec.key}")
        self._thread.start()

    @property
    def key(self) -> str:
        """The attempt's name."""
        return self.attempt.spec.key

    @property
    def failed(self) -> bool:
        """Whether fetching failed; a later try may succeed."""
        return self._error is not None

    def _run(self) -> None:
        _set_priority(threading.get_native_id(), psutil.IOPRIO_CLASS_IDLE)
        try:
            fetch(self.attempt)
        except Exception as error:
            self._error = error
            log.info("event=prefetch_failed attempt=%s error=%s", self.key, error)
        with self._lock:
            self._is_over = True
            if self._is_dropped:
                self.attempt.volume.close()

    def take(self, spec: AttemptSpec, reports: Reports) -> Attempt:
        """Return the attempt after this machine claimed it, and send its reports."""
        attempt = self.attempt
        reports.report(spec.key, ReportKind.STARTED, executer=describe_machine(attempt.config))
        if self._thread.native_id is not None and not self._is_over:
            _set_priority(self._thread.native_id, psutil.IOPRIO_CLASS_BE)
        self._reports.bind(reports)
        attempt.take_up(spec, self.join)
        return attempt

    @property
    def over(self) -> bool:
        """Whether its thread has ended."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Join the threads of a dropped prefetch."""
        self._thread.join()
        for thread in self.attempt.state.abandoned_threads:
            thread.join(PULL_JOIN_S)

    def join(self) -> None:
        """Wait until everything is fetched. Raises what fetching raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def drop(self) -> None:
        """Give it up. Returns at once; a transfer under way ends by itself."""
        self.attempt.switch.trip(Cause.LEASE_LOST)
        with self._lock:
            self._is_dropped = True
            if self._is_over:
                self.attempt.volume.close()


def _set_priority(thread: int, kind: int) -> None:
    try:
        psutil.Process(thread).ionice(kind)
    except (psutil.Error, OSError) as error:
        log.info("event=priority_not_set error=%s", error)
