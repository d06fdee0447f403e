"""How the time is spent that is left until a machine goes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.transfer.client import TransferFailed
from simherd.contract.cause import Cause

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.attempt.stop import StopSwitch

#: What is kept back at the end, for telling the scheduler: seconds, and share of a short notice.
_MARGIN_S, _MARGIN_SHARE = 5.0, 0.2
#: Shares of the rest: until then a simulation that heard the warning may save its state, and
#: until then it may end by itself. All that follows is for sending what was saved: with 30 s of
#: notice, the shortest that a cloud gives, 10 s and 2.5 s go to the simulation.
_STOP_SHARE, _KILL_SHARE = 0.4, 0.5


class OutOfTime(TransferFailed):
    """The machine goes before it could be sent."""


class Timetable:
    """Moments on the monotonic clock."""

    def __init__(self, reclaim_at: float) -> None:
        """`reclaim_at`: when the machine goes, seconds since the epoch."""
        left = max(0.0, reclaim_at - time.time())
        usable = left - min(_MARGIN_S, _MARGIN_SHARE * left)
        now = time.monotonic()
        self._stop_at = now + _STOP_SHARE * usable
        self._kill_at = now + _KILL_SHARE * usable
        self._release_at = now + usable

    @property
    def stop_in_s(self) -> float:
        """Seconds for which a simulation may still save its state."""
        return max(0.0, self._stop_at - time.monotonic())

    @property
    def kill_in_s(self) -> float:
        """Seconds after which nothing of it may run any more."""
        return max(0.0, self._kill_at - time.monotonic())

    def pause(self, switch: StopSwitch) -> Callable[[float], None]:
        """Waits for transfers: raises OutOfTime when the attempt is to be handed back."""

        def pause(seconds: float) -> None:
            if switch.cause is Cause.LEASE_LOST:
                switch.check()
            left = self._release_at - time.monotonic()
            if left <= 0:
                raise OutOfTime("the machine is reclaimed before it can be sent")
            if seconds > 0:
                time.sleep(min(seconds, left))

        return pause
