"""The one switch that stops an attempt: the first cause wins."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from executor.attempt.errors import Stopped
from simherd.contract.cause import Cause

if TYPE_CHECKING:
    from collections.abc import Callable

#: Causes after which outputs are not wanted: another machine has the attempt, or this one ends.
WITHOUT_OUTPUTS = frozenset(
    {Cause.LEASE_LOST, Cause.CONTACT_LOST, Cause.GROUP_TERMINATED, Cause.AGENT_STOPPED}
)


class StopSwitch:
    """Tripped once, by the first guard that has a reason. Safe to use from any thread."""

    def __init__(self, on_trip: Callable[[Cause, bool], None] | None = None) -> None:
        """`on_trip` is called at each change with the cause and whether outputs are discarded."""
        self._on_trip = on_trip
        self._changed = threading.Condition()
        #: Why the attempt is to stop; None while it is not.
        self.cause: Cause | None = None
        self._discard = False

    @property
    def without_outputs(self) -> bool:
        """Whether nothing must be uploaded any more."""
        return self.cause in WITHOUT_OUTPUTS or (self._discard and self.cause is not None)

    def trip(self, cause: Cause, *, discard: bool = False) -> bool:
        """Stop the attempt for `cause`; returns whether this cause was the first.

        A lost lease overrides any earlier cause: outputs must not be written any more.
        `discard`: the user does not want outputs.
        """
        with self._changed:
            before = (self.cause, self._discard)
            self._discard = self._discard or discard
            first = self.cause is None
            if first or cause is Cause.LEASE_LOST:
                self.cause = cause
            after = (self.cause, self._discard)
            self._changed.notify_all()
        if self._on_trip is not None and after != before and after[0] is not None:
            self._on_trip(after[0], after[1])
        return first

    def wait(self, timeout_s: float | None, until: Callable[[], bool] | None = None) -> bool:
        """Wait until the switch is tripped; returns whether it is. `until` ends the wait too; it is
        evaluated again at each `wake`."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.cause is not None or (until is not None and until()), timeout_s
            )
        return self.cause is not None

    def wake(self) -> None:
        """Let every waiter evaluate its condition again."""
        with self._changed:
            self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Wait for so many seconds. Raises Stopped as soon as the switch is tripped."""
        if self.cause is None and seconds > 0:
            self.wait(seconds)
        self.check()

    def check(self) -> None:
        """Raise Stopped if the switch was tripped."""
        if self.cause is not None:
            raise Stopped(self.cause)
