"""The limits of an attempt in time and money, which can be moved while the commands run."""

from __future__ import annotations

import threading
import time
from enum import Enum
from typing import TYPE_CHECKING

from simherd.contract.cause import Cause

if TYPE_CHECKING:
    from collections.abc import Callable


class DeadlineCheck(Enum):
    """What is due at a moment."""

    NOTHING = "nothing"
    #: Send the warning signal: once for each deadline that is set.
    WARN = "warn"
    STOP = "stop"


class Deadline:
    """The earliest of several limits; each has the cause that an attempt ends with.

    Limits are set from any thread as wall-clock times, because they outlive machines. They are
    kept on the monotonic clock: a later jump of the wall clock does not move them.
    """

    def __init__(self, warn_before_s: float, on_move: Callable[[], None]) -> None:
        """`on_move` is called after each change.

        The warning comes `warn_before_s` seconds before the limit, but not before half of the time
        has passed: a simulation that has just begun has nothing to save. 0: no warning.
        """
        self._wanted_s = self._warn_before_s = warn_before_s
        self._on_move = on_move
        self._lock = threading.Lock()
        #: Cause → wall-clock time, and the monotonic time for it.
        self._limits: dict[Cause, tuple[float, float]] = {}
        #: The cause of the earliest limit; None: there is no limit.
        self.cause: Cause | None = None
        self._warned = False
        #: How often a limit was set: a waiter that sees another number checks again.
        self.moves = 0

    @property
    def wall_time(self) -> float | None:
        """The earliest limit as it was set, seconds since the epoch."""
        with self._lock:
            return None if self.cause is None else self._limits[self.cause][0]

    def set(self, wall_time: float, cause: Cause = Cause.TASK_TIME_LIMIT) -> None:
        """Set the limit of this cause to `wall_time`, seconds since the epoch."""
        with self._lock:
            now, before = time.monotonic(), self._at
            self._limits[cause] = (wall_time, now + wall_time - time.time())
            self.cause = min(self._limits, key=lambda c: self._limits[c][1])
            at = self._at
            assert at is not None
            # A limit behind the earliest one does not change the warning.
            if at != before:
                self._warn_before_s = min(self._wanted_s, max(at - now, 0.0) / 2)
                self._warned = False
            self.moves += 1
        self._on_move()

    @property
    def _at(self) -> float | None:
        return None if self.cause is None else self._limits[self.cause][1]

    def left(self, now: float) -> float | None:
        """Return the seconds from the monotonic time `now` until something is due; None: never."""
        with self._lock:
            at = self._at
            if at is None:
                return None
            warns = self._warn_before_s > 0 and not self._warned
            return max(0.0, at - (self._warn_before_s if warns else 0.0) - now)

    def due(self, now: float) -> DeadlineCheck:
        """Return what is due at the monotonic time `now`. A warning is due only once."""
        with self._lock:
            at = self._at
            if at is None:
                return DeadlineCheck.NOTHING
            if now >= at:
                return DeadlineCheck.STOP
            if self._warned or self._warn_before_s <= 0 or now < at - self._warn_before_s:
                return DeadlineCheck.NOTHING
            self._warned = True
            return DeadlineCheck.WARN
