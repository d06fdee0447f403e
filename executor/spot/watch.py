"""The thread that polls a source of notices."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from executor.spot.decide import SILENT_S, LogChoice, NoticeAction, NoticeTracker, SourceErrors
from executor.spot.http import LOOK_S
from executor.spot.notice import NoticeSource, ReclaimNotice, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

#: Seconds that `close` waits beyond a look's own limit, for a machine that is busy.
_SPARE_S = 0.5


class NoticeWatch:
    """Polls a source and calls back with what is new. It owns the source, and closes it.

    The callbacks run on the watch's thread, which does not poll meanwhile: they should only set
    events, and must not call `close`. What they raise is logged.
    """

    def __init__(
        self,
        source: NoticeSource,
        on_notice: Callable[[ReclaimNotice], None],
        on_over: Callable[[], None],
    ) -> None:
        """Store the arguments; nothing happens before `start`.

        Args:
            source: what is polled.
            on_notice: called once for each notice: again for an earlier deadline, or for another
                notice after the deadline of the first has passed.
            on_over: called once when a machine is still there 60 s after the deadline of what
                `on_notice` was called with last, and the source says nothing new.
        """
        self._source = source
        self._on_notice = on_notice
        self._on_over = on_over
        self._tracker = NoticeTracker()
        self._errors = SourceErrors(time.monotonic())
        self._closing = threading.Event()
        # A daemon: a name server may hold a poll longer than `close` waits for it, and an agent
        # must still be able to end.
        self._thread = threading.Thread(target=self._run, name="spot", daemon=True)

    def start(self) -> None:
        """Start to poll; once."""
        self._errors = SourceErrors(time.monotonic())
        self._thread.start()

    def close(self) -> None:
        """Stop polling and join the thread, at once or when a poll that hangs has been given up. No
        callback begins afterwards. It may be called twice."""
        self._closing.set()
        if not self._thread.ident:
            self._source.close()
            return
        self._thread.join(LOOK_S + _SPARE_S)
        if self._thread.is_alive():
            log.warning("event=spot_watch_hangs source=%s", self._source.name)

    @property
    def silent_s(self) -> float:
        """Seconds since the last poll that succeeded, which also grow when the thread hangs."""
        return self._errors.silent_s(time.monotonic())

    @property
    def failing(self) -> bool:
        """Whether a notice would be missed by now: nothing but errors for 180 s."""
        return self.silent_s >= SILENT_S

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._poll_once()
                self._closing.wait(self._source.every_s)
        finally:
            self._source.close()

    def _poll_once(self) -> None:
        result: ReclaimNotice | Exception | None
        try:
            result = self._source.poll()
        except Exception as error:
            # Of any kind: a watch that ended because of a bug would miss the notice.
            result = error
        if self._closing.is_set():
            return
        failed = isinstance(result, Exception)
        self._log_errors(self._errors.observe(time.monotonic(), failed=failed), result)
        action = self._tracker.observe(time.time(), result)
        if action is NoticeAction.NOTIFY and isinstance(result, ReclaimNotice):
            left_s = result.reclaim_at - time.time()
            log.warning("event=spot_notice source=%s left_s=%.1f", result.source, left_s)
            self._call(lambda: self._on_notice(result))
        elif action is NoticeAction.OVER:
            log.warning("event=spot_notice_over source=%s", self._source.name)
            self._call(self._on_over)

    def _log_errors(self, choice: LogChoice, result: object) -> None:
        name = self._source.name
        # What is not a SourceError is a bug, whose place in the code is needed.
        bug = result if isinstance(result, Exception) else None
        trace = None if isinstance(bug, SourceError) else bug
        if choice is LogChoice.WARN:
            log.warning("event=spot_source_failed source=%s error=%s", name, result, exc_info=trace)
        elif choice is LogChoice.ALARM:
            text = "event=spot_source_silent source=%s silent_s=%.0f error=%s"
            log.error(text, name, self.silent_s, result, exc_info=trace)
        elif choice is LogChoice.BACK:
            log.info("event=spot_source_back source=%s", name)

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            log.exception("event=spot_callback_broke source=%s", self._source.name)
