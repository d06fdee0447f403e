"""How many machines a group should have, which of them to drain, and when to try a launch again.

Times are in seconds since the epoch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Seconds that the next task in line has waited before machines are added for the queue.
GROW_AFTER_S = 5.0
#: Refusals in a row, other than for lack of capacity, after which a group that has not had a
#: machine yet has failed to start.
_START_TRIES = 3


@dataclass(frozen=True)
class MachineUse:
    """A machine that is up, and what it has to do."""

    machine_id: str
    created_at: float
    launched_at: float | None
    has_joined: bool
    is_busy: bool
    #: When the last attempt on it ended; None: it has had none.
    last_ended_at: float | None = None

    @property
    def idle_since(self) -> float | None:
        """Since when it has joined and has nothing to do; None: it has not, or it is busy."""
        if self.is_busy or not self.has_joined:
            return None
        return max(self.last_ended_at or 0.0, self.launched_at or self.created_at)


@dataclass(frozen=True)
class GroupLoad:
    """What a group has to do, and what it has to do it with."""

    #: Tasks in the queue, and seconds that the next in line has waited.
    waiting: int
    next_waited_s: float
    #: Machines that are up or on their way, and the slots of one.
    machines: int
    slots: int
    #: Free slots, those of machines on their way included.
    free_slots: int
    #: Machines that have had nothing to do for the group's idle time.
    idle: int
    #: Whether the size has not changed for that long either.
    is_settled: bool


def count_idle(machines: Sequence[MachineUse], now: float, idle_s: float) -> int:
    """Return how many machines have had nothing to do for `idle_s` seconds."""
    return sum(m.idle_since is not None and now - m.idle_since >= idle_s for m in machines)


def wanted_size(load: GroupLoad, smallest: int, largest: int) -> int:
    """Return how many machines an elastic group should have now.

    It grows at once by as many machines as the queue could use. It shrinks only by machines that
    have had nothing to do for a while, with nothing in the queue, and not soon after a change,
    since a machine that was just added is given work.
    """
    size = load.machines
    lacking = load.waiting - load.free_slots
    if lacking > 0 and (size == 0 or load.next_waited_s >= GROW_AFTER_S):
        size += math.ceil(lacking / load.slots)
    elif not load.waiting and load.is_settled:
        size -= load.idle
    return min(largest, max(smallest, size))


def machines_to_drain(machines: Sequence[MachineUse], size: int, *, is_elastic: bool) -> list[str]:
    """Return the ids of the machines that a group of this size does not need.

    The machine that has been idle for longest goes first, one that works last. An elastic group
    keeps a launched machine that is not idle: it was given work meanwhile, and the size follows
    the next time that the load is measured.
    """

    def idle_first(machine: MachineUse) -> float:
        return math.inf if machine.idle_since is None else machine.idle_since

    surplus = sorted(machines, key=idle_first)[: max(0, len(machines) - size)]
    return [
        m.machine_id
        for m in surplus
        if not is_elastic or m.idle_since is not None or m.launched_at is None
    ]


def size_after_reclaim(size: int, smallest: int) -> int:
    """Return the size of an elastic group of which an idle machine is reclaimed.
    The machine is not replaced: the group grows again when there is work."""
    return max(smallest, size - 1)


def has_failed_to_start(hard_refusals: int, *, has_machines: bool) -> bool:
    """Return whether a group that is starting is given up.

    `hard_refusals`: launches refused in a row for other reasons than a lack of capacity;
    `has_machines`: whether one of its machines was launched.
    """
    return hard_refusals >= _START_TRIES and not has_machines
