"""Choosing the attempt that this machine prefetches."""

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
    """Holds at most one prefetch. The heartbeat updates it, and a claim takes it."""

    def __init__(
        self, keeper: LeaseKeeper, make: Callable[[AttemptSpec, Reports], Attempt]
    ) -> None:
        """`make` makes an attempt that sends its reports to its second argument."""
        self._keeper = keeper
        self._make = make
        self._lock = threading.Lock()
        self._prefetch: Prefetch | None = None
        #: Dropped prefetches whose threads may still run.
        self._dropped: list[Prefetch] = []

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that is prefetched now."""
        prefetch = self._prefetch
        return prefetch.attempt if prefetch is not None else None

    def update(self, *, wanted: bool) -> None:
        """Keep the prefetch if its attempt still waits; else choose another if one is wanted.
        Raises RedisError."""
        with self._lock:
            if self._prefetch is not None and self._prefetch.failed:
                self._give_up()
            if self._prefetch is None and not wanted:
                return
            staged = self._keeper.stage(self._prefetch.key if self._prefetch else "")
            if staged == "kept":
                return
            self._give_up()
            if staged is not None:
                if wanted:
                    self._begin(staged)
                else:
                    self._keeper.unstage(staged.attempt)

    def _begin(self, staged: Claimed) -> None:
        reports = HeldReports()
        try:
            attempt = self._make(AttemptSpec.decode(staged.spec), reports)
        except (ValueError, DiskError) as error:
            log.warning("event=not_staged attempt=%s error=%s", staged.attempt, error)
            return
        log.info("event=staging attempt=%s", staged.attempt)
        self._prefetch = Prefetch(attempt, reports)

    def claim(self, claimer: Claimer, token: str) -> tuple[Claimed | None, Prefetch | None]:
        """Claim an attempt; returns it, and the prefetch if it is for this attempt. Raises
        RedisError."""
        with self._lock:
            prefetch = self._prefetch
            is_usable = prefetch is not None and not prefetch.failed
            claimed = claimer.claim(token, prefetch.key if prefetch and is_usable else "")
            if claimed is None or prefetch is None or claimed.attempt != prefetch.key:
                return claimed, None
            self._prefetch = None
            if not is_usable:
                # Everything is fetched again, into a new volume.
                self._drop(prefetch)
                return claimed, None
            return claimed, prefetch

    def drop(self, key: str | None = None) -> None:
        """Drop the prefetch if it is for the attempt `key`; without a key, drop any."""
        with self._lock:
            if self._prefetch is not None and key in (None, self._prefetch.key):
                # If Redis is unavailable, the mark expires by itself.
                with contextlib.suppress(redis.RedisError):
                    self._keeper.unstage(self._prefetch.key)
                self._give_up()

    def close(self) -> None:
        """Drop the prefetch, and join all threads."""
        self.drop()
        self._keeper.close()
        for prefetch in self._dropped:
            prefetch.close()

    def _give_up(self) -> None:
        if self._prefetch is not None:
            log.info("event=unstaged attempt=%s", self._prefetch.key)
            self._drop(self._prefetch)
            self._prefetch = None

    def _drop(self, prefetch: Prefetch) -> None:
        prefetch.drop()
        self._dropped = [p for p in self._dropped if not p.over] + [prefetch]
