"""Sending traces beside the work: what is slow, full or broken there is lost, and said so."""

from __future__ import annotations

import logging
import queue
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from scheduler.traces.spans import Span, spans_of, submission

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from scheduler.store.engine import Store

log = logging.getLogger(__name__)

#: What waits to be sent at the most; what comes on top of that is lost.
_MOST_WAITING = 10_000
#: What goes into one request at the most.
_MOST_TOGETHER = 50
#: Seconds between two complaints about what was lost.
_COMPLAIN_S = 60.0
#: Seconds that the end of the process waits for what is still to be sent.
_CLOSE_S = 3.0

#: The `traceparent` header of the request that is being handled.
caller: ContextVar[str | None] = ContextVar("caller", default=None)


class TraceTarget(Protocol):
    """Where spans go."""

    def send(self, spans: Sequence[Span]) -> bool:
        """Send spans; return whether they were accepted."""

    def close(self) -> None:
        """Give up what is being sent."""


class TraceSender:
    """Queues tasks at once, and sends their spans from its thread."""

    def __init__(self, store: Store, target: TraceTarget) -> None:
        self._store = store
        self._target = target
        #: Spans that are known, or a task that has ended and when that was recorded; None: the end.
        self._waiting: queue.Queue[Span | tuple[str, float] | None] = queue.Queue(_MOST_WAITING)
        self._lost = 0
        self._complained_at = -_COMPLAIN_S
        # A daemon, for a collector that is silent must not keep the process; `close` joins it.
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def submitted(self, task_ids: Iterable[str], began: float) -> None:
        """Tasks were made by the request that began then, seconds since the epoch."""
        now, cause = time.time(), caller.get()
        for task_id in task_ids:
            self._put(submission(task_id, began, now, cause))

    def ended(self, task_ids: Iterable[str]) -> None:
        """The end of these tasks has just been recorded."""
        now = time.time()
        for task_id in task_ids:
            self._put((task_id, now))

    def close(self) -> None:
        """Send what is waiting if that takes no longer than a moment."""
        self._put(None)
        self._thread.join(_CLOSE_S)
        self._target.close()

    def _put(self, what: Span | tuple[str, float] | None) -> None:
        try:
            self._waiting.put_nowait(what)
        except queue.Full:
            self._lose(1, "too many wait")

    def _run(self) -> None:
        over = False
        while not over:
            batch = [self._waiting.get()]
            while len(batch) < _MOST_TOGETHER and not self._waiting.empty():
                batch.append(self._waiting.get())
            over = None in batch
            entries = [entry for entry in batch if entry is not None]
            try:
                if entries and not self._target.send(self._spans(entries)):
                    self._lose(len(entries), "the collector did not take them")
            except Exception as error:
                # Whatever it is, the work goes on, and so do the next traces.
                self._lose(len(entries), repr(error))

    def _spans(self, entries: Sequence[Span | tuple[str, float]]) -> list[Span]:
        spans = [entry for entry in entries if isinstance(entry, Span)]
        with self._store.read() as session:
            for one in entries:
                if not isinstance(one, Span):
                    spans += spans_of(session, *one)
        return spans

    def _lose(self, number: int, why: str) -> None:
        self._lost += number
        if time.monotonic() - self._complained_at >= _COMPLAIN_S:
            self._complained_at = time.monotonic()
            lost, self._lost = self._lost, 0
            log.warning("event=traces_lost traces=%s reason=%s", lost, why)
