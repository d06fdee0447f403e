"""When an attempt's time runs out: a moment that can be moved while the commands run."""

from __future__ import annotations

import threading
import time
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Due(Enum):
    """What a deadline asks for."""

    NOTHING = "nothing"
    #: Send the warning signal: once for each deadline that is set.
    WARN = "warn"
    STOP = "stop"


class Deadline:
    """Set and moved from any thread. The clock that counts is the monotonic one.

    Deadlines come as wall-clock times, because they outlive machines; a jump of the wall clock
    afterwards does not move them.
    """

    def __init__(self, warn_before_s: float, on_move: Callable[[], None]) -> None:
        """`on_move` is called after each change.

        The warning comes `warn_before_s` seconds ahead, but not before half of the time has
        passed: a simulation that has just begun has nothing to save. 0: no warning.
        """
        self._wanted_s = self._warn_before_s = warn_before_s
        self._on_move = on_move
        self._lock = threading.Lock()
        self._at: float | None = None
        self._wall_time: float | None = None
        self._warned = False
        self._moves = 0

    @property
    def moves(self) -> int:
        """How often it was set: a waiter that sees another number looks again."""
        return self._moves

    @property
    def wall_time(self) -> float | None:
        """The moment as it was set, seconds since the epoch."""
        return self._wall_time

    def set(self, wall_time: float) -> None:
        """Let it be this moment, seconds since the epoch."""
        with self._lock:
            self._wall_time = wall_time
            left = wall_time - time.time()
            self._at = time.monotonic() + left
            self._warn_before_s = min(self._wanted_s, max(left, 0.0) / 2)
            self._warned = False
            self._moves += 1
        self._on_move()

    def left(self, now: float) -> float | None:
        """Seconds from the monotonic time `now` until something is due; None: never."""
        with self._lock:
            if self._at is None:
                return None
            warns = self._warn_before_s > 0 and not self._warned
            return max(0.0, self._at - (self._warn_before_s if warns else 0.0) - now)

    def due(self, now: float) -> Due:
        """What is due at the monotonic time `now`. A warning is asked for only once."""
        with self._lock:
            if self._at is None:
                return Due.NOTHING
            if now >= self._at:
                return Due.STOP
            if self._warned or self._warn_before_s <= 0 or now < self._at - self._warn_before_s:
                return Due.NOTHING
            self._warned = True
            return Due.WARN
