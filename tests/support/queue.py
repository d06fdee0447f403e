"""Both sides of a machine group's queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from executor.link.lease import Claimer, HeldLease, LeaseKeeper, new_token
from scheduler.domain.limits import MAIN_SERVER
from scheduler.queue.group_queue import Arrival
from scheduler.queue.servers import Servers
from simherd.contract.queue.keys import GroupKeys

if TYPE_CHECKING:
    from collections.abc import Collection

    import redis

    from scheduler.queue.group_queue import GroupQueue
    from simherd.contract.queue.scripts import Claimed, Renewal

_C = TypeVar("_C")


def one_server(client: _C) -> Servers[_C]:
    """A single Redis server, which holds all groups."""
    return Servers({MAIN_SERVER: ""}, lambda _: client, lambda _: MAIN_SERVER)


class Everything:
    """An ownership that lets every machine and task belong to every group."""

    def machines(self, group: str, ids: Collection[str]) -> set[str]:
        """See `Ownership`."""
        return set(ids)

    def tasks(self, group: str, ids: Collection[str]) -> set[str]:
        """See `Ownership`."""
        return set(ids)


def held_in(queue: GroupQueue, group: str) -> list[str]:
    """Every attempt of a group that a machine holds."""
    return [lease.attempt for lease in queue.reader.leases(group).all]


def waiting_in(client: redis.Redis, group: str) -> list[str]:
    """Every waiting attempt of a group, first one first."""
    found: Any = client.zrange(GroupKeys(group).queue, 0, -1)
    return [str(attempt) for attempt in found]


@dataclass
class Side:
    """One machine group, seen by the scheduler and by executors."""

    group: str
    url: str
    queue: GroupQueue

    def enqueue(self, attempt: str, order: int = 1) -> str:
        return self.queue.enqueue(self.group, [Arrival(attempt, order, f"spec of {attempt}")])[0]

    def claim(self, executor: str = "m1", token: str | None = None) -> Claimed | None:
        claimer = Claimer(self.url, self.group, executor)
        try:
            return claimer.claim(token or new_token())
        finally:
            claimer.close()

    def beat(self, *held: HeldLease, executor: str = "m1") -> list[Renewal]:
        keeper = LeaseKeeper(self.url, self.group, executor)
        try:
            return keeper.beat(held)
        finally:
            keeper.close()

    def states(self, *held: HeldLease, executor: str = "m1") -> list[str]:
        return [r.state for r in self.beat(*held, executor=executor)]
