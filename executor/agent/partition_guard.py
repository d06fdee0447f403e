"""How long the agent has been out of contact, over its own restarts and the machine's sleep."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from simherd.contract import limits
from simherd.contract.cause import Cause

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from executor.attempt.context import Attempt

log = logging.getLogger(__name__)

#: Share of the group's reconnect window after which an agent gives its attempts up. The rest is
#: for stopping them before the scheduler gives them to others.
GIVE_UP_SHARE = 0.8


class PartitionGuard:
    """When Redis last answered a heartbeat or a claim. The clock goes on while a machine sleeps."""

    def __init__(self, file: Path, window_s: float) -> None:
        """`window_s`: for how long the scheduler leaves a silent machine its attempts."""
        self._file = file
        self._patience_s = GIVE_UP_SHARE * window_s
        self._lock = threading.Lock()
        self._last = self._read()

    def _read(self) -> float:
        now = _now()
        try:
            then = float(self._file.read_text())
        except (OSError, ValueError):
            return now
        # A later moment than now is of an earlier boot.
        return then if then <= now else now

    def made(self) -> None:
        """Redis answered just now, and counts this machine as heard of."""
        with self._lock:
            self._last = _now()
            self._file.write_text(f"{self._last:.3f}\n")

    @property
    def silent_s(self) -> float:
        """Seconds since Redis last answered."""
        with self._lock:
            return _now() - self._last

    @property
    def left_s(self) -> float:
        """Seconds until what runs here must stop: soon after it will be another machine's."""
        with self._lock:
            return self._last + self._patience_s - _now()

    def watch(self, stopping: threading.Event, attempts: Callable[[], list[Attempt]]) -> None:
        """Stop what runs before the scheduler gives it to another machine; until `stopping`.

        Apart from the heartbeat, which may itself hang for long when the network is cut.
        """
        while not stopping.wait(max(0.1, min(limits.HEARTBEAT_S, self.left_s))):
            if self.left_s <= 0:
                for attempt in attempts():
                    if attempt.switch.trip(Cause.CONTACT_LOST):
                        log.error("event=contact_lost attempt=%s", attempt.spec.key)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
