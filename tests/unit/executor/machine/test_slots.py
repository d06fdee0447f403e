"""Slots: as many attempts compute as there are, and every waiter learns what changed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from executor.machine.slots import Slot, Slots

if TYPE_CHECKING:
    from collections.abc import Callable


def yes() -> bool:
    return True


def no() -> bool:
    return False


class Waiter:
    """A thread that waits for a slot; `has_asked` is set once it has to wait."""

    def __init__(self, slots: Slots, wanted: Callable[[], bool] = yes) -> None:
        self.has_asked = threading.Event()
        self.took: bool | None = None
        self._slots, self._wanted = slots, wanted
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self.has_asked.wait(30)

    def _run(self) -> None:
        self.took = self._slots.take(self._ask, yes)

    def _ask(self) -> bool:
        self.has_asked.set()
        return self._wanted()

    def join(self) -> bool | None:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.took


@pytest.mark.parametrize("number", [1, 2, 5])
def test_so_many_are_taken_and_no_more(number: int) -> None:
    slots = Slots(number)
    for taken in range(number):
        assert slots.all_taken is False, taken
        assert slots.take(yes, yes)
    assert slots.all_taken
    assert slots.number == number


def test_a_free_slot_is_not_taken_by_one_who_does_not_want_it() -> None:
    slots = Slots(1)
    assert not slots.take(no, yes)
    assert not slots.all_taken


def test_one_that_is_given_back_goes_to_a_waiter() -> None:
    slots = Slots(1)
    slots.take(yes, yes)
    waiter = Waiter(slots)
    slots.give()
    assert waiter.join() is True
    assert slots.all_taken


def test_a_waiter_that_is_woken_and_not_wanted_any_more_gives_up() -> None:
    slots, wanted = Slots(1), [True]
    slots.take(yes, yes)
    waiter = Waiter(slots, lambda: wanted[0])
    wanted[0] = False
    slots.wake()
    assert waiter.join() is False


def test_a_slot_waits_until_the_next_attempt_is_ready() -> None:
    slots, is_ready, asked = Slots(1), [False], threading.Event()
    took = []

    def ready() -> bool:
        asked.set()
        return is_ready[0]

    thread = threading.Thread(target=lambda: took.append(slots.take(yes, ready)))
    thread.start()
    assert asked.wait(30)
    assert not slots.all_taken
    is_ready[0] = True
    slots.wake()
    thread.join(30)
    assert took == [True]


def test_an_adopted_attempt_takes_a_slot_whether_one_is_free_or_not() -> None:
    slots = Slots(1)
    slots.take_now()
    slots.take_now()
    assert slots.all_taken
    slots.give()
    assert slots.all_taken
    slots.give()
    assert not slots.all_taken


def test_giving_a_slot_back_twice_frees_one_slot_only() -> None:
    slots = Slots(2)
    slots.take(yes, yes)
    slots.take(yes, yes)
    slot = Slot(slots)
    assert slot.held
    slot.give()
    slot.give()
    assert not slot.held
    assert slots.take(yes, yes)
    assert slots.all_taken
