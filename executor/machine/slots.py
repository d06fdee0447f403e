"""The slots of a machine: how many attempts may compute at one time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Slots:
    """Counts the attempts that compute; may be used from any thread."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._taken = 0
        self._changed = threading.Condition()

    def take(self, wanted: Callable[[], bool], ready: Callable[[], bool]) -> bool:
        """Wait for a free slot and for `ready`, and take the slot; return False once not `wanted`.

        Both are called again at each `wake`.
        """
        with self._changed:
            self._changed.wait_for(lambda: (self._taken < self._number and ready()) or not wanted())
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
    def number(self) -> int:
        """The number of slots."""
        return self._number

    @property
    def all_taken(self) -> bool:
        """Whether no slot is free."""
        with self._changed:
            return self._taken >= self._number


class Slot:
    """A slot that is taken; giving it back twice does no harm."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._held = True
        self._lock = threading.Lock()

    @property
    def held(self) -> bool:
        """Whether the slot has not been given back."""
        return self._held

    def give(self) -> None:
        """Give the slot back for the next attempt."""
        with self._lock:
            held, self._held = self._held, False
        if held:
            self._slots.give()
