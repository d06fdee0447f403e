"""The heartbeat: it extends leases, learns what was recorded, and reports on the machine."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import redis

from executor.observability import table
from executor.observability.instruments import inc
from simherd.contract import limits
from simherd.runtime.health import Pulse

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.agent.partition_guard import PartitionGuard
    from executor.link.lease import LeaseKeeper
    from executor.link.reporter import Reporter

log = logging.getLogger(__name__)


class Heartbeat:
    """A thread that beats until it is closed, and once more then."""

    def __init__(
        self,
        *,
        keeper: LeaseKeeper,
        reporter: Reporter,
        guard: PartitionGuard,
        on_lost: Callable[[str], None],
        machine_info: Callable[[], dict[str, Any]],
        prefetch: Callable[[], None],
    ) -> None:
        """`on_lost` gets the key of an attempt whose lease is lost; `prefetch` comes last."""
        self._keeper = keeper
        self._reporter = reporter
        self._guard = guard
        self._on_lost = on_lost
        self._machine_info = machine_info
        self._prefetch = prefetch
        self._wake = threading.Event()
        self._closed = threading.Event()
        self.pulse = Pulse("The heartbeat")
        self._thread = threading.Thread(target=self._run, name="heartbeat")

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()
        self.pulse.kept_by(self._thread)

    def beat_soon(self) -> None:
        """Beat now instead of at the next interval."""
        self._wake.set()

    def close(self) -> None:
        """Beat once more, for what was reported meanwhile, and join."""
        self._closed.set()
        self._wake.set()
        self._thread.join()
        self._keeper.close()

    def _run(self) -> None:
        while True:
            self.pulse.beat()
            try:
                self.beat()
            except redis.RedisError as error:
                inc(table.BEATS_FAILED)
                log.warning("event=heartbeat_failed error=%s", error)
            except Exception:
                # Without a heartbeat all attempts of this machine would go to others.
                log.exception("event=heartbeat_broke")
            if self._closed.is_set():
                return
            self._wake.wait(limits.HEARTBEAT_S)
            self._wake.clear()

    def beat(self) -> None:
        """Beat once. Raises RedisError."""
        renewals = self._keeper.beat(self._reporter.held())
        # Only after the reply, which says which attempts this machine still holds.
        self._guard.record_contact()
        for renewal in renewals:
            if renewal.state == "recorded":
                self._reporter.forget(renewal.attempt)
            elif renewal.state == "lost":
                log.warning("event=lease_lost attempt=%s", renewal.attempt)
                self._on_lost(renewal.attempt)
            else:
                self._reporter.recorded(renewal.attempt, renewal.recorded)
        # Last: a Redis that reached its memory limit renews leases but accepts nothing more.
        self._keeper.publish_facts(self._machine_info())
        self._prefetch()
