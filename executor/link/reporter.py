"""Reporting: every report goes to the journal, then to the stream, in order, again if lost."""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

import redis

from executor.link.connection import Address, connect
from executor.link.lease import HeldLease
from simherd.contract.attempt_spec import parse_attempt
from simherd.contract.queue.keys import GroupKeys
from simherd.contract.reports import Report, ReportKind
from simherd.runtime.backoff import Backoff

if TYPE_CHECKING:
    from executor.link.journal import Journal, JournalEntry

#: Events an event stream keeps at the most (approximately); executors send again what is lost.
EVENTS_MAX = 100_000

log = logging.getLogger(__name__)

#: Seconds between two tries while Redis is out of reach.
_RETRY_S = 1.0
#: How long a report may stay unrecorded before it is sent again.
_RESEND = Backoff(10.0, 120.0)


class _Tracked:
    """The state of reporting on one attempt."""

    def __init__(self, entry: JournalEntry) -> None:
        self.entry = entry
        self.recorded = 0
        self.sent_again = 0
        self.sent_at = time.monotonic()


class Reporter:
    """Writes the journals, and owns the thread that sends reports."""

    def __init__(self, where: str | Address, group: str, executor: str, journal: Journal) -> None:
        self._executor = executor
        self._client = connect(where)
        self._stream = GroupKeys(group).events
        self._journal = journal
        self._lock = threading.Lock()
        self._tracked: dict[str, _Tracked] = {}
        self._outgoing: queue.SimpleQueue[Report | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter")

    def start(self) -> None:
        """Start to send."""
        self._thread.start()

    @property
    def has_died(self) -> bool:
        """Whether its thread ended before `close`."""
        return not self._thread.is_alive() and bool(self._thread.ident) and not self._stop.is_set()

    def close(self) -> None:
        """Send what waits if Redis can be reached, then stop and join."""
        self._stop.set()
        self._outgoing.put(None)
        self._thread.join()
        self._client.close()

    def open(self, attempt: str, token: str, spec: str) -> None:
        """Start to report on a claimed attempt."""
        entry = self._journal.open(attempt, token, spec)
        with self._lock:
            self._tracked[attempt] = _Tracked(entry)

    def adopt(self, entry: JournalEntry) -> None:
        """Continue with an attempt whose journal an earlier agent left."""
        with self._lock:
            self._tracked[entry.attempt] = _Tracked(entry)
        for event in entry.events:
            self._outgoing.put(event)

    def report(self, attempt: str, kind: ReportKind, at: float | None = None, **body: Any) -> None:
        """Queue a report for the scheduler; after `finished` nothing more is sent."""
        with self._lock:
            tracked = self._tracked.get(attempt)
            if tracked is None or tracked.entry.ended:
                return
            task_id, number = parse_attempt(attempt)
            event = Report(
                kind=kind,
                task_id=task_id,
                attempt=number,
                number=tracked.entry.last + 1,
                at=time.time() if at is None else at,
                executor=self._executor,
                body=body,
            )
            self._journal.append(tracked.entry, event)
            tracked.sent_at = time.monotonic()
        self._outgoing.put(event)

    def note(self, attempt: str, **notes: Any) -> None:
        """Store in the journal what only an agent needs."""
        with self._lock:
            tracked = self._tracked.get(attempt)
            if tracked is not None:
                self._journal.note(tracked.entry, **notes)

    def held(self) -> list[HeldLease]:
        """Return every attempt that a heartbeat has to present."""
        with self._lock:
            return [
                HeldLease(t.entry.attempt, t.entry.token, t.entry.last, t.entry.ended)
                for t in self._tracked.values()
            ]

    def unrecorded(self) -> tuple[int, int]:
        """Return the number of attempts presented, and of their reports that may be unrecorded."""
        with self._lock:
            left = [t.entry.last - t.recorded for t in self._tracked.values()]
        return len(left), sum(left)

    def recorded(self, attempt: str, number: int) -> None:
        """Take in which report the scheduler recorded last; send again what seems to be lost."""
        with self._lock:
            tracked = self._tracked.get(attempt)
            if tracked is None:
                return
            if number > tracked.recorded:
                tracked.recorded, tracked.sent_again = number, 0
            wait_s = _RESEND.after(tracked.sent_again + 1)
            late = time.monotonic() - tracked.sent_at > wait_s
            if number >= tracked.entry.last or not late:
                return
            tracked.sent_at = time.monotonic()
            tracked.sent_again += 1
            again = [e for e in tracked.entry.events if e.number > number]
        log.info("event=reported_again attempt=%s from=%s", attempt, number + 1)
        for event in again:
            self._outgoing.put(event)

    def forget(self, attempt: str) -> None:
        """Stop presenting an attempt: it is recorded to its end, or leased to another machine."""
        with self._lock:
            tracked = self._tracked.pop(attempt, None)
        if tracked is not None:
            self._journal.forget(tracked.entry)

    def _run(self) -> None:
        while True:
            batch = [self._outgoing.get()]
            while not self._outgoing.empty():
                batch.append(self._outgoing.get())
            self._send([e for e in batch if e is not None])
            if self._stop.is_set() and self._outgoing.empty():
                return

    def _send(self, events: list[Report]) -> None:
        while events:
            pipe = self._client.pipeline(transaction=False)
            for event in events:
                # A repeated report does no harm: the recorder knows each by its number.
                pipe.xadd(self._stream, {"e": event.encode()}, maxlen=EVENTS_MAX, approximate=True)
            try:
                pipe.execute()
            except redis.RedisError as error:
                log.warning("event=report_waits error=%s", error)
                if self._stop.wait(_RETRY_S):
                    return
            else:
                return
