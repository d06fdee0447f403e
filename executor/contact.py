"""How long the agent has been out of contact, over its own restarts and the machine's sleep."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: Share of the group's reconnect window after which an agent gives its attempts up. The rest is
#: for stopping them before the scheduler gives them to others.
GIVE_UP_SHARE = 0.8


class Contact:
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
    def left_s(self) -> float:
        """Seconds until what runs here must stop: soon after it will be another machine's."""
        with self._lock:
            return self._last + self._patience_s - _now()


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
