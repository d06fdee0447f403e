"""How the time until a machine is reclaimed is divided."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.transfer.client import TransferFailed
from simherd.contract.cause import Cause

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.attempt.stop import StopSwitch

#: The reserve at the end, for the last report: seconds, and share of a short notice.
_MARGIN_S, _MARGIN_SHARE = 5.0, 0.2
#: Shares of the rest: until the first, a simulation that handles the warning may save its state;
#: until the second, it may end after SIGTERM. The remaining time is for the upload. Of the shortest
#: notice that a cloud gives, 30 s, the simulation gets 10 s and 2.5 s.
_STOP_SHARE, _KILL_SHARE = 0.4, 0.5


class OutOfTime(TransferFailed):
    """The machine is reclaimed before the transfer is complete."""


class Timetable:
    """The moments at which the steps of a reclaim are due, on the monotonic clock."""

    def __init__(self, reclaim_at: float) -> None:
        """`reclaim_at`: when the machine is reclaimed, seconds since the epoch."""
        left = max(0.0, reclaim_at - time.time())
        usable = left - min(_MARGIN_S, _MARGIN_SHARE * left)
        now = time.monotonic()
        self._stop_at = now + _STOP_SHARE * usable
        self._kill_at = now + _KILL_SHARE * usable
        self._release_at = now + usable

    @property
    def stop_in_s(self) -> float:
        """Seconds in which a simulation may still save its state."""
        return max(0.0, self._stop_at - time.monotonic())

    @property
    def kill_in_s(self) -> float:
        """Seconds after which the simulation must be killed."""
        return max(0.0, self._kill_at - time.monotonic())

    def pause(self, switch: StopSwitch) -> Callable[[float], None]:
        """Return a pause for transfers that raises OutOfTime when the time is over."""

        def pause(seconds: float) -> None:
            if switch.cause is Cause.LEASE_LOST:
                switch.check()
            left = self._release_at - time.monotonic()
            if left <= 0:
                raise OutOfTime("the machine is reclaimed before it can be sent")
            if seconds > 0:
                time.sleep(min(seconds, left))

        return pause
