"""What the scheduler is told of this machine itself: that it is to be reclaimed, and its secret."""

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

#: Seconds between two tries while the scheduler is out of reach.
_RETRY_S = 1.0
#: Seconds between two looks whether the secret has grown old.
_LOOK_S = 600.0
_UNKNOWN = -1.0


class Interruption:
    """Stands between whoever takes the machine away and the agent. Owns two threads."""

    def __init__(
        self,
        identity: Identity,
        notices: str,
        attempts: Callable[[], list[Attempt]],
        changed: Callable[[], None],
    ) -> None:
        """`notices`: where it is told; `changed` is called when claims may, or may not, go on."""
        self._identity = identity
        self._attempts = attempts
        self._changed = changed
        self._source = source = open_source(notices)
        self._watch = (
            None if source is None else NoticeWatch(source, self._on_notice, self._on_over)
        )
        self.reclaim_at: float | None = None
        #: What the scheduler was told; at first whatever an earlier agent has told it.
        self._told: float | None = _UNKNOWN
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence")

    def start(self) -> None:
        """Begin to look and to tell."""
        self._thread.start()
        if self._watch is not None:
            self._watch.start()

    def close(self) -> None:
        """Join."""
        if self._watch is not None:
            self._watch.close()
        self._closed.set()
        self._wake.set()
        self._thread.join()
        self._identity.close()

    @property
    def may_claim(self) -> bool:
        """Whether the machine stays, as far as is known."""
        return self.reclaim_at is None

    @property
    def silent_s(self) -> float | None:
        """Seconds since the source of notices last answered; None where there is none."""
        return None if self._watch is None else self._watch.silent_s

    def meet(self, attempt: Attempt) -> None:
        """An attempt that was begun: one that came too late is handed back at once."""
        reclaim_at = self.reclaim_at
        if reclaim_at is not None:
            attempt.reclaim(reclaim_at)

    def facts(self) -> dict[str, Any]:
        """What the machine tells of it with its heartbeat."""
        silent = self._watch is not None and self._watch.failing
        # An early hint that some clouds give; nothing follows from it.
        at_risk = isinstance(self._source, AwsSource) and self._source.at_risk
        return {
            "reclaim_at": self.reclaim_at,
            "spot_notices_silent": silent,
            "reclaim_likely": at_risk,
        }

    def _on_notice(self, notice: ReclaimNotice) -> None:
        # First of all nothing more is claimed; then what runs here is handed back.
        self.reclaim_at = notice.reclaim_at
        self._changed()
        self._wake.set()
        for attempt in self._attempts():
            attempt.reclaim(notice.reclaim_at)

    def _on_over(self) -> None:
        self.reclaim_at = None
        self._changed()
        self._wake.set()

    def _run(self) -> None:
        while True:
            done = self._tell()
            if self._closed.is_set():
                return
            self._wake.wait(_LOOK_S if done else _RETRY_S)
            self._wake.clear()

    def _tell(self) -> bool:
        """Have the scheduler know what it does not; answers whether it does now."""
        try:
            reclaim_at = self.reclaim_at
            if reclaim_at != self._told:
                self._identity.post("notice", {"reclaim_at": reclaim_at})
                self._told = reclaim_at
            self._identity.renew_secret()
        except httpx.HTTPError as error:
            log.warning("event=scheduler_not_told error=%s", error)
            return False
        return self.reclaim_at == self._told
