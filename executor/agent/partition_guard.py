"""How long Redis has been silent, also over restarts of the agent and sleep of the machine."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from simherd.contract import limits
from simherd.contract.cause import Cause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from executor.attempt.context import Attempt

log = logging.getLogger(__name__)

#: Share of the group's reconnect window after which an agent gives its attempts up. The rest is
#: the time to stop them before the scheduler gives them to other machines.
GIVE_UP_SHARE = 0.8


class PartitionGuard:
    """Stops attempts before the scheduler gives them to other machines. It knows when Redis last
    responded to a heartbeat or a claim, by a clock that goes on while the machine sleeps."""

    def __init__(self, file: Path, window_s: float) -> None:
        """`file` keeps the time over restarts; `window_s`: the reconnect window, seconds."""
        self._file = file
        self._give_up_s = GIVE_UP_SHARE * window_s
        self._lock = threading.Lock()
        self._last = self._read()

    def _read(self) -> float:
        now = _now()
        try:
            then = float(self._file.read_text())
        except (OSError, ValueError):
            return now
        # A time later than now is from an earlier boot.
        return then if then <= now else now

    def record_contact(self) -> None:
        """Note that Redis responded just now."""
        with self._lock:
            self._last = _now()
            self._file.write_text(f"{self._last:.3f}\n")

    @property
    def silent_s(self) -> float:
        """Seconds since Redis last responded."""
        with self._lock:
            return _now() - self._last

    @property
    def remaining_s(self) -> float:
        """Seconds until the attempts here must stop; negative after that."""
        with self._lock:
            return self._last + self._give_up_s - _now()

    def watch(self, stopping: threading.Event, attempts: Callable[[], list[Attempt]]) -> None:
        """Check until `stopping` is set. Not on the heartbeat's thread, which may itself hang when
        the network is cut."""
        while not stopping.wait(max(0.1, min(limits.HEARTBEAT_S, self.remaining_s))):
            self.check(attempts())

    def check(self, attempts: Iterable[Attempt]) -> None:
        """Stop these attempts if the time is up."""
        if self.remaining_s <= 0:
            for attempt in attempts:
                if attempt.switch.trip(Cause.CONTACT_LOST):
                    log.error("event=contact_lost attempt=%s", attempt.spec.key)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
