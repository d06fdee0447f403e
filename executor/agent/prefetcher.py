"""Chooses what this machine fetches ahead, and lets go of it."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING

import redis

from executor.agent.prefetch import HeldReports, Prefetch
from executor.machine.volumes import DiskError
from simherd.contract.attempt_spec import AttemptSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.attempt.context import Attempt, Reports
    from executor.link.lease import Claimer, LeaseKeeper
    from simherd.contract.queue.scripts import Claimed

log = logging.getLogger(__name__)


class Prefetcher:
    """Holds at most one attempt. The heartbeat looks after it, the claim takes it."""

    def __init__(
        self, keeper: LeaseKeeper, make: Callable[[AttemptSpec, Reports], Attempt]
    ) -> None:
        """`make` makes an attempt that reports to what it is given."""
        self._keeper = keeper
        self._make = make
        self._lock = threading.Lock()
        self._ahead: Prefetch | None = None
        #: What threads the dropped ones have left.
        self._dropped: list[Prefetch] = []

    @property
    def attempt(self) -> Attempt | None:
        """What is fetched ahead now."""
        ahead = self._ahead
        return ahead.attempt if ahead is not None else None

    def look(self, *, wanted: bool) -> None:
        """Keep what is staged if it still waits, and choose another if one is wanted.

        Raises RedisError.
        """
        with self._lock:
            if self._ahead is not None and self._ahead.failed:
                self._let_go()
            if self._ahead is None and not wanted:
                return
            found = self._keeper.stage(self._ahead.key if self._ahead else "")
            if found == "kept":
                return
            self._let_go()
            if found is not None:
                if wanted:
                    self._begin(found)
                else:
                    self._keeper.unstage(found.attempt)

    def _begin(self, found: Claimed) -> None:
        reports = HeldReports()
        try:
            attempt = self._make(AttemptSpec.decode(found.spec), reports)
        except (ValueError, DiskError) as error:
            log.warning("event=not_staged attempt=%s error=%s", found.attempt, error)
            return
        log.info("event=staging attempt=%s", found.attempt)
        self._ahead = Prefetch(attempt, reports)

    def claim(self, claimer: Claimer, token: str) -> tuple[Claimed | None, Prefetch | None]:
        """Claim an attempt; answers it, and what was fetched ahead if it is for that one.

        Raises RedisError.
        """
        with self._lock:
            ahead = self._ahead
            ready = ahead is not None and not ahead.failed
            claimed = claimer.claim(token, ahead.key if ahead is not None and ready else "")
            if claimed is None or ahead is None or claimed.attempt != ahead.key:
                return claimed, None
            self._ahead = None
            if not ready:
                # It is fetched again, into a place of its own.
                self._drop(ahead)
                return claimed, None
            return claimed, ahead

    def drop(self, key: str | None = None) -> None:
        """Let go of what is staged, if it is this one; of whatever it is without a key."""
        with self._lock:
            if self._ahead is not None and key in (None, self._ahead.key):
                # If it cannot be said, the mark ends by itself.
                with contextlib.suppress(redis.RedisError):
                    self._keeper.unstage(self._ahead.key)
                self._let_go()

    def close(self) -> None:
        """Let go of everything, and join."""
        self.drop()
        self._keeper.close()
        for ahead in self._dropped:
            ahead.close()

    def _let_go(self) -> None:
        if self._ahead is not None:
            log.info("event=unstaged attempt=%s", self._ahead.key)
            self._drop(self._ahead)
            self._ahead = None

    def _drop(self, ahead: Prefetch) -> None:
        ahead.drop()
        self._dropped = [a for a in self._dropped if not a.over] + [ahead]
