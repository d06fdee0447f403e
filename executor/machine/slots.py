"""The slots of a machine: how many attempts may compute at one time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Slots:
    """Counts the attempts that compute; may be used from any thread."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._taken = 0
        self._changed = threading.Condition()

    def take(self, wanted: Callable[[], bool], ready: Callable[[], bool]) -> bool:
        """Wait for a free slot and for `ready`, and take the slot; return False once not `wanted`.
        Both are called again at each `wake`."""
        with self._changed:
            self._changed.wait_for(lambda: (self._taken < self.number and ready()) or not wanted())
            if not wanted():
                return False
            self._taken += 1
            return True

    def take_now(self) -> None:
        """Take a slot for an attempt that computes already, whether one is free or not."""
        with self._changed:
            self._taken += 1

    def give(self) -> None:
        """Give a slot back."""
        with self._changed:
            self._taken -= 1
            self._changed.notify_all()

    def wake(self) -> None:
        """Let every waiter check again whether it is wanted and ready."""
        with self._changed:
            self._changed.notify_all()

    @property
    def all_taken(self) -> bool:
        """Whether no slot is free."""
        with self._changed:
            return self._taken >= self.number


class Slot:
    """A slot that is taken; giving it back twice does no harm."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        #: Whether the slot has not been given back.
        self.held = True
        self._lock = threading.Lock()

    def give(self) -> None:
        """Give the slot back for the next attempt."""
        with self._lock:
            held, self.held = self.held, False
        if held:
            self._slots.give()
