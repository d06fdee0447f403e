"""Watching an attempt's commands: their resources, a full disk, a stall."""

from __future__ import annotations

import contextlib
import csv
import itertools
import logging
import os
import select
import threading
import time
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

from executor.attempt.stall_detector import StallDetector
from simherd.contract.cause import Cause
from simherd.contract.reports import USAGE_FIELDS, ReportKind
from simherd.runtime.logs import in_context

if TYPE_CHECKING:
    from executor.attempt.context import Attempt
    from executor.containers.base import Running
    from executor.containers.usage import Usage

log = logging.getLogger(__name__)

#: Seconds between two samples: few at first, because most failures come early.
_FIRST_SAMPLES_S = (0.02, 0.05, 0.1, 0.2, 0.5)
_SAMPLE_S = 1.0
#: Seconds between two rows of the series: of the first ten minutes, and after.
_ROWS_S = ((600.0, 1.0), (float("inf"), 10.0))
#: Seconds between two usage reports: of the first hour, and after.
_REPORTS_S = ((3600.0, 60.0), (float("inf"), 300.0))
#: Measuring the use of a disk may take one part in this of the time.
_WATCH_SHARE = 20

#: Of the series; `time_s` is in seconds since the epoch.
COLUMNS = ("time_s", *USAGE_FIELDS)


class ResourceMonitor:
    """Takes samples on a thread while a command runs: within a `with` block."""

    def __init__(self, attempt: Attempt, running: Running) -> None:
        self._attempt = attempt
        self._running = running
        self._peaks = attempt.state.peaks
        self._stall = StallDetector(attempt, time.monotonic())
        #: Readable when the command has ended.
        self._over = os.eventfd(0, os.EFD_CLOEXEC)
        self._began = time.monotonic()
        self._next_row = self._next_report = self._next_disk = 0.0
        self._disk_bytes = 0
        self._thread = threading.Thread(
            target=in_context(self._run), name=f"monitor-{attempt.spec.key}"
        )

    def __enter__(self) -> ResourceMonitor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.eventfd_write(self._over, 1)
        self._thread.join()
        os.close(self._over)
        self._measure_disk()
        self._peaks.see(self._peaks.last, self._disk_bytes)
        self._stall.close()
        self._peaks.command_ended()

    def _run(self) -> None:
        with contextlib.ExitStack() as stack:
            alarms = [stack.enter_context(file) for file in self._running.alarms()]
            poll = select.poll()
            poll.register(self._over, select.POLLIN)
            for file in alarms:
                file.read()
                poll.register(file, select.POLLPRI)
            try:
                self._take_samples(stack, poll, alarms)
            except OSError as error:
                # A simulation must not end because its samples cannot be written.
                log.error("event=monitor_ended attempt=%s error=%s", self._attempt.spec.key, error)

    def _take_samples(
        self, stack: contextlib.ExitStack, poll: select.poll, alarms: list[IO[bytes]]
    ) -> None:
        new = not self._attempt.series.exists()
        series = stack.enter_context(self._attempt.series.open("a", newline=""))
        writer = csv.writer(series)
        if new:
            writer.writerow(COLUMNS)
        for pause_s in itertools.chain(_FIRST_SAMPLES_S, itertools.repeat(_SAMPLE_S)):
            ready = dict(poll.poll(1000 * pause_s))
            if self._over in ready:
                return
            self._sample(writer)
            for file in alarms:
                if file.fileno() in ready:
                    # Reading it again arms the alarm again.
                    with contextlib.suppress(OSError):
                        file.seek(0)
                        file.read()
            series.flush()

    def _sample(self, writer: Any) -> None:
        now = time.monotonic()
        usage = self._running.usage()
        if usage is None:
            return
        if now >= self._next_disk:
            self._measure_disk()
            self._next_disk = time.monotonic() + _WATCH_SHARE * (time.monotonic() - now)
        self._peaks.see(usage, self._disk_bytes)
        self._stall.look(now, usage.cpu_s)
        total = replace(usage, cpu_s=self._peaks.cpu_s + usage.cpu_s)
        if now >= self._next_row:
            self._next_row = now + _step(_ROWS_S, now - self._began)
            writer.writerow((f"{time.time():.3f}", *_row(total), self._disk_bytes))
        if now >= self._next_report:
            self._next_report = now + _step(_REPORTS_S, now - self._began)
            values = dict(zip(USAGE_FIELDS, (*_row(total), self._disk_bytes), strict=True))
            self._attempt.report(ReportKind.USAGE, **values)

    def _measure_disk(self) -> None:
        try:
            self._disk_bytes = self._attempt.volume.used()
            if self._attempt.volume.is_full():
                self._attempt.switch.trip(Cause.DISK_LIMIT)
        except OSError as error:
            log.warning("event=disk_not_read attempt=%s %s", self._attempt.spec.key, error)


def _row(usage: Usage) -> tuple[float, int, int, int, int]:
    return (
        round(usage.cpu_s, 3),
        usage.memory_bytes,
        usage.processes,
        usage.read_bytes,
        usage.written_bytes,
    )


def _step(steps: tuple[tuple[float, float], ...], age_s: float) -> float:
    return next(step for until, step in steps if age_s < until)
