"""The switch that stops an attempt."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from executor.attempt.errors import Stopped
from executor.attempt.stop import WITHOUT_OUTPUTS, StopSwitch
from simherd.contract.cause import Cause

OTHERS = [cause for cause in Cause if cause is not Cause.LEASE_LOST]


@pytest.mark.parametrize("second", [Cause.KILLED_BY_USER, Cause.CONTACT_LOST])
@pytest.mark.parametrize("first", Cause)
def test_the_first_cause_wins(first: Cause, second: Cause) -> None:
    switch = StopSwitch()
    assert switch.cause is None
    assert switch.trip(first)
    assert not switch.trip(second)
    assert switch.cause is first


@pytest.mark.parametrize("first", OTHERS)
def test_a_lost_lease_overrides_every_cause(first: Cause) -> None:
    switch = StopSwitch()
    switch.trip(first)
    assert not switch.trip(Cause.LEASE_LOST)
    assert switch.cause is Cause.LEASE_LOST
    assert switch.without_outputs
    switch.trip(first)
    assert switch.cause is Cause.LEASE_LOST


@pytest.mark.parametrize("cause", Cause)
def test_some_causes_drop_the_outputs(cause: Cause) -> None:
    switch = StopSwitch()
    switch.trip(cause)
    assert switch.without_outputs is (cause in WITHOUT_OUTPUTS)


@pytest.mark.parametrize("later", [False, True])
def test_a_wish_to_discard_stays(later: bool) -> None:
    switch = StopSwitch()
    switch.trip(Cause.TASK_TIME_LIMIT, discard=not later)
    switch.trip(Cause.KILLED_BY_USER, discard=later)
    assert switch.cause is Cause.TASK_TIME_LIMIT
    assert switch.without_outputs


def test_each_change_is_passed_on_once() -> None:
    changes: list[tuple[Cause, bool]] = []
    switch = StopSwitch(lambda cause, discard: changes.append((cause, discard)))
    switch.trip(Cause.TASK_TIME_LIMIT)
    switch.trip(Cause.COST_LIMIT)
    switch.trip(Cause.KILLED_BY_USER, discard=True)
    switch.trip(Cause.KILLED_BY_USER, discard=True)
    switch.trip(Cause.LEASE_LOST)
    assert changes == [
        (Cause.TASK_TIME_LIMIT, False),
        (Cause.TASK_TIME_LIMIT, True),
        (Cause.LEASE_LOST, True),
    ]


def test_of_many_threads_one_is_first() -> None:
    changes: list[Cause] = []
    switch = StopSwitch(lambda cause, _: changes.append(cause))
    start, firsts = threading.Barrier(8), []

    def trip(cause: Cause) -> None:
        start.wait()
        if switch.trip(cause):
            firsts.append(cause)

    threads = [threading.Thread(target=trip, args=(cause,)) for cause in OTHERS[:8]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert firsts == changes == [switch.cause]


def test_a_trip_ends_every_wait() -> None:
    switch = StopSwitch()
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(switch.wait(60))) for _ in range(3)]
    for thread in threads:
        thread.start()
    switch.trip(Cause.KILLED_BY_USER)
    for thread in threads:
        thread.join()
    assert results == [True] * 3


def test_a_wake_evaluates_the_condition_again() -> None:
    switch, is_over, results = StopSwitch(), threading.Event(), list[bool]()
    thread = threading.Thread(target=lambda: results.append(switch.wait(60, is_over.is_set)))
    thread.start()
    switch.wake()
    is_over.set()
    switch.wake()
    thread.join()
    assert results == [False]


def test_a_pause_raises_once_it_is_tripped() -> None:
    switch = StopSwitch()
    switch.pause(0)
    switch.pause(0.001)
    switch.trip(Cause.COST_LIMIT)
    for wait in (partial(switch.pause, 60), partial(switch.pause, 0), switch.check):
        with pytest.raises(Stopped) as stopped:
            wait()
        assert stopped.value.cause is Cause.COST_LIMIT
