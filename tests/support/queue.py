"""Both sides of a machine group's queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.link.lease import Claimer, Held, Keeper, new_token

if TYPE_CHECKING:
    from scheduler.queue.group_queue import GroupQueue
    from simherd.contract.queue.scripts import Claimed, Renewal


@dataclass
class Side:
    """One machine group, seen by the scheduler and by executors."""

    group: str
    url: str
    queue: GroupQueue

    def enqueue(self, attempt: str, order: int = 1) -> str:
        return self.queue.enqueue(self.group, attempt, order, f"spec of {attempt}")

    def claim(self, executor: str = "m1", token: str | None = None) -> Claimed | None:
        claimer = Claimer(self.url, self.group, executor)
        try:
            return claimer.claim(token or new_token())
        finally:
            claimer.close()

    def beat(self, *held: Held, executor: str = "m1") -> list[Renewal]:
        keeper = Keeper(self.url, self.group, executor)
        try:
            return keeper.beat(held)
        finally:
            keeper.close()

    def states(self, *held: Held, executor: str = "m1") -> list[str]:
        return [r.state for r in self.beat(*held, executor=executor)]
