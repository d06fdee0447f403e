"""Fetching ahead: what the next attempt needs, while this machine's slots are busy.

The attempt stays in the queue for whoever is free first. When this machine claims it, its inputs
are here; when another does, or it is killed, they are dropped.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psutil

from executor.attempt.run import PULL_JOIN_S, fetch, machine_of
from simherd.contract.cause import Cause
from simherd.contract.reports import ReportKind
from simherd.runtime.logs import about, in_context

if TYPE_CHECKING:
    from executor.attempt.context import Attempt, Reports
    from simherd.contract.attempt_spec import AttemptSpec

log = logging.getLogger(__name__)


class HeldReports:
    """Reports of an attempt that is not ours yet: kept until it is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[tuple[str, ReportKind, float, dict[str, Any]]] = []
        self._reports: Reports | None = None

    def report(self, attempt: str, kind: ReportKind, at: float | None = None, **body: Any) -> None:
        """See `Reports`."""
        with self._lock:
            if self._reports is None:
                self._kept.append((attempt, kind, time.time() if at is None else at, body))
            else:
                self._reports.report(attempt, kind, at, **body)

    def note(self, attempt: str, **notes: Any) -> None:
        """See `Reports`. Nothing of it has to survive this agent."""

    def bind(self, reports: Reports) -> None:
        """It is ours: tell all that was kept, and the rest at once."""
        with self._lock:
            for attempt, kind, at, body in self._kept:
                reports.report(attempt, kind, at, **body)
            self._reports = reports


class Prefetch:
    """One attempt whose image and inputs are being fetched, or are here."""

    def __init__(self, attempt: Attempt, reports: HeldReports) -> None:
        self.attempt = attempt
        self._reports = reports
        self._lock = threading.Lock()
        self._over = self._dropped = False
        self._error: Exception | None = None
        with about(attempt=attempt.spec.key):
            run = in_context(self._run)
        self._thread = threading.Thread(target=run, name=f"ahead-{attempt.spec.key}")
        self._thread.start()

    @property
    def key(self) -> str:
        """The attempt's name."""
        return self.attempt.spec.key

    @property
    def failed(self) -> bool:
        """Whether it could not be fetched; a later try may succeed."""
        return self._error is not None

    def _run(self) -> None:
        _set_priority(threading.get_native_id(), psutil.IOPRIO_CLASS_IDLE)
        try:
            fetch(self.attempt)
        except Exception as error:
            self._error = error
            log.info("event=ahead_failed attempt=%s error=%s", self.key, error)
        with self._lock:
            self._over = True
            if self._dropped:
                self.attempt.area.close()

    def take(self, spec: AttemptSpec, reports: Reports) -> Attempt:
        """It was claimed: tells its start and all that was kept; answers it."""
        attempt = self.attempt
        reports.report(spec.key, ReportKind.STARTED, executer=machine_of(attempt.config))
        attempt.progress = replace(attempt.progress, started_at=time.time())
        if self._thread.native_id is not None and not self._over:
            _set_priority(self._thread.native_id, psutil.IOPRIO_CLASS_BE)
        self._reports.bind(reports)
        attempt.spec, attempt.reporter, attempt.fetching = spec, reports, self.join
        return attempt

    @property
    def over(self) -> bool:
        """Whether its thread has done all that it does."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Join what a dropped one has left."""
        self._thread.join()
        for thread in self.attempt.left_behind:
            thread.join(PULL_JOIN_S)

    def join(self) -> None:
        """Wait until all is here; raises what went wrong."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def drop(self) -> None:
        """Nobody needs it. Returns at once; what is under way ends by itself."""
        self.attempt.switch.trip(Cause.LEASE_LOST)
        with self._lock:
            self._dropped = True
            if self._over:
                self.attempt.area.close()


def _set_priority(thread: int, kind: int) -> None:
    try:
        psutil.Process(thread).ionice(kind)
    except (psutil.Error, OSError) as error:
        log.info("event=priority_not_set error=%s", error)
