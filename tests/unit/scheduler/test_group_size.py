"""How an elastic group grows and shrinks."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from scheduler.domain.group_size import GROW_AFTER_S, GroupLoad, wanted_size

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


def test_one_that_has_just_come_is_no_reason_to_grow() -> None:
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
