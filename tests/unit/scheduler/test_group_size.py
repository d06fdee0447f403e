"""How many machines a group should have, and which of them go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.domain.group_size import (
    GROW_AFTER_S,
    GroupLoad,
    MachineUse,
    count_idle,
    has_failed_to_start,
    machines_to_drain,
    size_after_reclaim,
    wanted_size,
)

QUIET = GroupLoad(
    waiting=0,
    next_waited_s=0.0,
    machines=2,
    slots=1,
    free_slots=2,
    idle=0,
    is_settled=True,
)
LOADS = st.builds(
    GroupLoad,
    waiting=st.integers(0, 10_000),
    next_waited_s=st.floats(0, 1e6),
    machines=st.integers(0, 50),
    slots=st.integers(1, 8),
    free_slots=st.integers(0, 400),
    idle=st.integers(0, 50),
    is_settled=st.booleans(),
)


def test_it_grows_by_what_the_queue_can_use() -> None:
    busy = replace(QUIET, waiting=5, next_waited_s=GROW_AFTER_S, free_slots=0)
    assert wanted_size(busy, 1, 10) == 7
    assert wanted_size(busy, 1, 4) == 4
    assert wanted_size(replace(busy, slots=4), 1, 10) == 4
    # Machines on their way count: the same queue does not ask for more at the next look.
    assert wanted_size(replace(busy, machines=7, free_slots=5), 1, 10) == 7


def test_a_task_that_was_just_queued_does_not_grow_the_group() -> None:
    busy = replace(QUIET, waiting=1, next_waited_s=GROW_AFTER_S - 1, free_slots=0)
    assert wanted_size(busy, 1, 10) == 2
    # But a group without machines has nobody who might be free in a moment.
    assert wanted_size(replace(busy, machines=0), 0, 10) == 1


def test_it_shrinks_by_machines_that_have_nothing_to_do() -> None:
    assert wanted_size(replace(QUIET, machines=4, idle=3), 1, 10) == 1
    assert wanted_size(replace(QUIET, machines=4, idle=4), 2, 10) == 2
    assert wanted_size(replace(QUIET, machines=1, idle=1), 0, 10) == 0


def test_it_does_not_shrink_soon_after_a_change() -> None:
    assert wanted_size(replace(QUIET, idle=2, is_settled=False), 0, 10) == 2


@given(LOADS, st.integers(0, 10), st.integers(1, 40))
def test_it_keeps_its_bounds_and_never_takes_one_that_works(
    load: GroupLoad, smallest: int, more: int
) -> None:
    largest = smallest + more
    size = wanted_size(load, smallest, largest)
    assert smallest <= size <= largest
    if smallest <= load.machines <= largest:
        assert size >= load.machines - load.idle
        if load.waiting > load.free_slots:
            assert size >= load.machines


@pytest.mark.parametrize(
    ("waiting", "waited", "machines", "slots", "free", "idle", "settled", "size"),
    [
        (0, 0.0, 0, 1, 0, 0, True, 1),  # never below the smallest
        (99, 9.0, 3, 1, 0, 0, True, 5),  # never above the largest
        (3, 9.0, 3, 2, 0, 0, True, 5),  # two slots a machine, rounded up
        (3, 9.0, 3, 1, 3, 0, True, 3),  # there is room for all of them
        (3, 4.9, 3, 1, 0, 0, True, 3),  # they have only just come
        (1, 0.0, 3, 1, 1, 2, True, 3),  # what waits keeps the idle ones
        (0, 0.0, 4, 1, 4, 2, True, 2),
        (0, 0.0, 4, 1, 4, 2, False, 4),
        (0, 0.0, 7, 1, 7, 0, True, 5),  # a group that was made smaller
    ],
)
def test_the_size_by_load(
    waiting: int,
    waited: float,
    machines: int,
    slots: int,
    free: int,
    idle: int,
    settled: bool,
    size: int,
) -> None:
    load = GroupLoad(waiting, waited, machines, slots, free, idle, settled)
    assert wanted_size(load, 1, 5) == size


def machine(name: str, since: float | None, **fields: Any) -> MachineUse:
    """A machine that has been idle since then; None: busy."""
    values = {"created_at": 1.0, "launched_at": 1.0, "has_joined": True, "last_ended_at": since}
    return MachineUse(name, **{**values, "is_busy": since is None, **fields})


@pytest.mark.parametrize(
    ("fields", "since"),
    [
        ({}, 50.0),
        ({"is_busy": True}, None),
        ({"has_joined": False}, None),
        ({"last_ended_at": None}, 1.0),
        ({"last_ended_at": None, "launched_at": 7.0}, 7.0),
        ({"last_ended_at": None, "launched_at": None, "created_at": 3.0}, 3.0),
        ({"launched_at": 60.0}, 60.0),  # it came back after that attempt
    ],
)
def test_since_when_a_machine_is_idle(fields: dict[str, Any], since: float | None) -> None:
    assert machine("m", 50.0, **fields).idle_since == since


def test_idle_machines_are_counted_from_the_groups_idle_time_on() -> None:
    machines = [machine("a", 40.0), machine("b", 41.0), machine("c", None)]
    assert count_idle(machines, 100.0, 60.0) == 1
    assert count_idle(machines, 101.0, 60.0) == 2
    assert count_idle([], 101.0, 60.0) == 0


MACHINES = [
    machine("works", None),
    machine("idle", 30.0),
    machine("idler", 20.0),
    machine("new", 1.0, launched_at=None, has_joined=False),
]


@pytest.mark.parametrize(
    ("size", "is_elastic", "drained"),
    [
        (4, False, []),
        (9, False, []),
        (3, False, ["idler"]),
        (2, False, ["idler", "idle"]),
        (1, False, ["idler", "idle", "works"]),
        (0, False, ["idler", "idle", "works", "new"]),
        (2, True, ["idler", "idle"]),
        (1, True, ["idler", "idle"]),  # an elastic group keeps one that works
        (0, True, ["idler", "idle", "new"]),  # and one that was never launched goes
    ],
)
def test_which_machines_are_drained(size: int, is_elastic: bool, drained: list[str]) -> None:
    assert machines_to_drain(MACHINES, size, is_elastic=is_elastic) == drained


@given(
    st.lists(st.one_of(st.none(), st.floats(0, 1e9)), max_size=12),
    st.integers(0, 12),
    st.booleans(),
)
def test_no_more_are_drained_than_are_too_many_and_idle_ones_first(
    times: list[float | None], size: int, is_elastic: bool
) -> None:
    machines = [machine(str(number), since) for number, since in enumerate(times)]
    drained = machines_to_drain(machines, size, is_elastic=is_elastic)
    busy = {m.machine_id for m in machines if m.idle_since is None}
    surplus = max(0, len(machines) - size)
    assert len(drained) == len(set(drained)) <= surplus
    if is_elastic:
        assert not busy.intersection(drained)
    elif busy.intersection(drained):
        assert {m.machine_id for m in machines} - busy <= set(drained)


@pytest.mark.parametrize(("size", "smallest", "after"), [(3, 0, 2), (3, 3, 3), (1, 0, 0)])
def test_an_idle_machine_that_is_reclaimed_is_not_replaced(
    size: int, smallest: int, after: int
) -> None:
    assert size_after_reclaim(size, smallest) == after


@pytest.mark.parametrize(
    ("refusals", "has_machines", "failed"),
    [(0, False, False), (2, False, False), (3, False, True), (3, True, False)],
)
def test_when_a_group_has_failed_to_start(refusals: int, has_machines: bool, failed: bool) -> None:
    assert has_failed_to_start(refusals, has_machines=has_machines) is failed
