"""The scripts against a model, in thousands of orders, and under a race."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from executor.link.lease import MAX_OVERTAKEN, Claimer, HeldLease, LeaseKeeper, new_token
from scheduler.queue.group_queue import Arrival, GroupQueue, connect
from simherd.contract.queue.scripts import Claimed
from tests.support.queue import Everything, held_in, one_server, waiting_in

if TYPE_CHECKING:
    import redis

    from tests.support.queue import Side

ATTEMPTS = st.sampled_from([f"t{n}:1" for n in range(6)])
EXECUTORS = st.sampled_from(["m1", "m2"])


class QueueModel(RuleBasedStateMachine):
    """What a group's queue and leases should be, beside the real ones."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.group = uuid.uuid4().hex
        self.client = connect(self.url)
        self.queue = GroupQueue(one_server(self.client), Everything())
        self.claimers = {m: Claimer(self.url, self.group, m) for m in ("m1", "m2")}
        self.keepers = {m: LeaseKeeper(self.url, self.group, m) for m in ("m1", "m2")}
        self.waiting: dict[str, float] = {}
        self.held: dict[str, tuple[str, str]] = {}
        self.revoked: set[str] = set()
        #: Executor → what it fetches ahead; attempt → how often it was overtaken.
        self.staged: dict[str, str] = {}
        self.overtaken: dict[str, int] = {}

    def teardown(self) -> None:
        for claimer in self.claimers.values():
            claimer.close()
        for keeper in self.keepers.values():
            keeper.close()
        self.client.close()

    @rule(attempt=ATTEMPTS, order=st.integers(0, 5))
    def enqueue(self, attempt: str, order: int) -> None:
        expected = "held" if attempt in self.held else "queued"
        expected = "present" if attempt in self.waiting else expected
        assert self.queue.enqueue(self.group, [Arrival(attempt, order, attempt)]) == [expected]
        if expected == "queued":
            self.waiting[attempt] = order

    @rule(executor=EXECUTORS)
    def claim(self, executor: str) -> None:
        token, own = new_token(), self.staged.get(executor, "")
        found = self.claimers[executor].claim(token, own)
        if not self.waiting:
            assert found is None
            return
        first = min(self.waiting, key=lambda a: (self.waiting[a], a))
        if own in self.waiting and own != first:
            times = self.overtaken.get(first, 0)
            if times < MAX_OVERTAKEN:
                self.overtaken[first] = times + 1
                first = own
        assert found is not None
        assert (found.attempt, found.spec) == (first, first)
        assert self.claimers[executor].claim(token) == found
        self._left(first)
        self.held[first] = (executor, token)
        self.revoked.discard(first)

    @rule(attempt=ATTEMPTS, executor=EXECUTORS)
    def renew(self, attempt: str, executor: str) -> None:
        holder, token = self.held.get(attempt, ("", ""))
        if attempt not in self.held and attempt not in self.revoked:
            return  # nobody presents what nobody was given
        presented = token if holder == executor else "stale"
        (renewal,) = self.keepers[executor].beat([HeldLease(attempt, presented, 1, False)])
        assert renewal.state == ("held" if holder == executor else "lost")

    @rule(attempt=ATTEMPTS)
    def withdraw(self, attempt: str) -> None:
        expected: tuple[str, str | None] = ("absent", None)
        if attempt in self.waiting:
            expected = ("withdrawn", None)
        elif attempt in self.held:
            expected = ("held", self.held[attempt][0])
        assert self.queue.withdraw(self.group, attempt) == expected
        if attempt in self.waiting:
            self._left(attempt)

    def _left(self, attempt: str) -> None:
        """An attempt waits no more."""
        del self.waiting[attempt]
        self.overtaken.pop(attempt, None)
        self.staged = {m: a for m, a in self.staged.items() if a != attempt}

    @rule(executor=EXECUTORS)
    def stage(self, executor: str) -> None:
        own = self.staged.get(executor, "")
        found = self.keepers[executor].stage(own)
        if own:
            assert found == "kept"
            return
        taken = set(self.staged.values())
        ordered = sorted(self.waiting, key=lambda a: (self.waiting[a], a))
        free = [a for a in ordered if a not in taken]
        if not free:
            assert found is None
            return
        assert isinstance(found, Claimed)
        assert (found.attempt, found.spec) == (free[0], free[0])
        self.staged[executor] = free[0]

    @rule(attempt=ATTEMPTS)
    def revoke(self, attempt: str) -> None:
        if attempt in self.waiting:
            return  # the scheduler withdraws before it revokes
        assert self.queue.revoke(self.group, attempt) == self.held.pop(attempt, ("", ""))[0]
        self.revoked.add(attempt)

    @rule(attempt=ATTEMPTS, executor=EXECUTORS)
    def finish(self, attempt: str, executor: str) -> None:
        if self.held.get(attempt, ("",))[0] != executor:
            return
        self.client.hset(f"simherd:{{{self.group}}}:recorded", attempt, 5)
        token = self.held.pop(attempt)[1]
        (renewal,) = self.keepers[executor].beat([HeldLease(attempt, token, 5, True)])
        assert renewal.state == "recorded"

    @invariant()
    def same(self) -> None:
        ordered = sorted(self.waiting, key=lambda a: (self.waiting[a], a))
        assert waiting_in(self.queue.servers.main, self.group) == ordered
        assert sorted(held_in(self.queue, self.group)) == sorted(self.held)


def test_the_scripts_do_what_the_model_does(redis_url: str) -> None:
    QueueModel.url = redis_url
    run_state_machine_as_test(
        QueueModel,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("count", [500])
def test_racing_slots_claim_each_attempt_once(side: Side, client: redis.Redis, count: int) -> None:
    for number in range(count):
        side.enqueue(f"t{number}:1", order=number)
    taken: list[list[str]] = [[] for _ in range(8)]
    together = threading.Barrier(len(taken))

    def slot(mine: list[str]) -> None:
        claimer = Claimer(side.url, side.group, "m")
        together.wait()
        while (found := claimer.claim(new_token())) is not None:
            mine.append(found.attempt)
        claimer.close()

    threads = [threading.Thread(target=slot, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(a for mine in taken for a in mine) == sorted(f"t{n}:1" for n in range(count))
    # Each slot saw the queue in order.
    for mine in taken:
        numbers = [int(a[1:].partition(":")[0]) for a in mine]
        assert numbers == sorted(numbers)
