"""Interruption notices of a spot machine, passed to the agent and to the scheduler."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import httpx

from executor.spot.aws import AwsSource
from executor.spot.sources import open_source
from executor.spot.watch import NoticeWatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.attempt.context import Attempt
    from executor.join import Identity
    from executor.spot.notice import ReclaimNotice

log = logging.getLogger(__name__)

#: Seconds between two tries while the scheduler is unavailable.
_RETRY_S = 1.0
#: Seconds between two checks of the age of the machine's secret.
_CHECK_S = 600.0
_UNKNOWN = -1.0


class Interruption:
    """Watches for notices, hands attempts back, and notifies the scheduler. Owns two threads."""

    def __init__(
        self,
        identity: Identity,
        notices: str,
        *,
        attempts: Callable[[], list[Attempt]],
        on_change: Callable[[], None],
    ) -> None:
        """`notices` names their source; `on_change` is called when `may_claim` has changed."""
        self._identity = identity
        self._attempts = attempts
        self._on_change = on_change
        self._source = source = open_source(notices)
        self._watch = (
            None if source is None else NoticeWatch(source, self._on_notice, self._on_over)
        )
        self.reclaim_at: float | None = None
        #: What the scheduler knows; unknown at first: an earlier agent may have notified it.
        self._notified: float | None = _UNKNOWN
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="interruption")

    def start(self) -> None:
        """Begin to watch and to notify."""
        self._thread.start()
        if self._watch is not None:
            self._watch.start()

    def close(self) -> None:
        """Stop watching, and join."""
        if self._watch is not None:
            self._watch.close()
        self._closed.set()
        self._wake.set()
        self._thread.join()
        self._identity.close()

    @property
    def may_claim(self) -> bool:
        """Whether no reclaim of the machine is announced."""
        return self.reclaim_at is None

    @property
    def silent_s(self) -> float | None:
        """Seconds since the source of notices last returned one; None if there is no source."""
        return None if self._watch is None else self._watch.silent_s

    def attempt_started(self, attempt: Attempt) -> None:
        """Hand an attempt back at once if it started after the notice."""
        reclaim_at = self.reclaim_at
        if reclaim_at is not None:
            attempt.reclaim(reclaim_at)

    def facts(self) -> dict[str, Any]:
        """Return what the heartbeat reports about notices."""
        silent = self._watch is not None and self._watch.failing
        # Some clouds give an early hint; it is shown, and nothing else depends on it.
        at_risk = isinstance(self._source, AwsSource) and self._source.at_risk
        return {
            "reclaim_at": self.reclaim_at,
            "spot_notices_silent": silent,
            "reclaim_likely": at_risk,
        }

    def _on_notice(self, notice: ReclaimNotice) -> None:
        # First claim nothing more, then hand back the attempts.
        self.reclaim_at = notice.reclaim_at
        self._on_change()
        self._wake.set()
        for attempt in self._attempts():
            attempt.reclaim(notice.reclaim_at)

    def _on_over(self) -> None:
        self.reclaim_at = None
        self._on_change()
        self._wake.set()

    def _run(self) -> None:
        while True:
            is_known = self._notify()
            if self._closed.is_set():
                return
            self._wake.wait(_CHECK_S if is_known else _RETRY_S)
            self._wake.clear()

    def _notify(self) -> bool:
        """Notify the scheduler of a change; returns whether the scheduler is up to date."""
        try:
            reclaim_at = self.reclaim_at
            if reclaim_at != self._notified:
                self._identity.post("notice", {"reclaim_at": reclaim_at})
                self._notified = reclaim_at
            self._identity.renew_secret()
        except httpx.HTTPError as error:
            log.warning("event=scheduler_not_notified error=%s", error)
            return False
        return self.reclaim_at == self._notified
