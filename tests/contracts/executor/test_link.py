"""One behaviour of an executor's connections to the queue: those to Redis, and the fakes."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Protocol

import pytest

from executor.link.connection import connect
from executor.link.lease import Claimer, HeldLease, LeaseKeeper, new_token
from executor.link.mpi import GangLink
from scheduler.queue.group_queue import GroupQueue
from simherd.contract.inbox import Message, Order
from simherd.contract.queue.keys import GroupKeys
from simherd.contract.queue.scripts import Claimed
from tests.support.fakes.link import FakeClaimer, FakeGangLink, FakeLeaseKeeper, FakeQueue
from tests.support.queue import Everything, Side, one_server

if TYPE_CHECKING:
    from collections.abc import Iterator

#: An attempt's name, as the queue knows it.
A, B = "task-a:1", "task-b:1"


class Link(Protocol):
    """A group's queue, with what the scheduler does to it."""

    def enqueue(self, attempt: str) -> None: ...
    def record(self, attempt: str, number: int) -> None: ...
    def forget_leases(self) -> None: ...
    def set_gang(self, attempt: str, *members: str) -> None: ...
    def claimer(self, executor: str = "m1") -> Claimer | FakeClaimer: ...
    def keeper(self, executor: str = "m1") -> LeaseKeeper | FakeLeaseKeeper: ...
    def gang(self, executor: str = "m1") -> GangLink | FakeGangLink: ...


class RedisLink:
    def __init__(self, url: str) -> None:
        self.client = connect(url)
        self.group, self.url = uuid.uuid4().hex, url
        self.keys = GroupKeys(self.group)
        self.side = Side(self.group, url, GroupQueue(one_server(self.client), Everything()))
        self.count = 0

    def enqueue(self, attempt: str) -> None:
        self.count += 1
        self.side.enqueue(attempt, self.count)

    def record(self, attempt: str, number: int) -> None:
        self.client.hset(self.keys.recorded, attempt, number)

    def forget_leases(self) -> None:
        for key in self.client.scan_iter(f"{self.keys.lease_prefix}*"):
            self.client.delete(key)
        self.client.delete(self.keys.leases)

    def set_gang(self, attempt: str, *members: str) -> None:
        self.client.hset(self.keys.gangs, attempt, ",".join(members))

    def claimer(self, executor: str = "m1") -> Claimer:
        return Claimer(self.url, self.group, executor)

    def keeper(self, executor: str = "m1") -> LeaseKeeper:
        return LeaseKeeper(self.url, self.group, executor)

    def gang(self, executor: str = "m1") -> GangLink:
        return GangLink(self.url, self.group, executor)


class FakeLink:
    def __init__(self) -> None:
        self.queue = FakeQueue()

    def enqueue(self, attempt: str) -> None:
        self.queue.enqueue(attempt, f"spec of {attempt}")

    def record(self, attempt: str, number: int) -> None:
        self.queue.recorded[attempt] = number

    def forget_leases(self) -> None:
        self.queue.leases.clear()

    def set_gang(self, attempt: str, *members: str) -> None:
        self.queue.gangs[attempt] = members

    def claimer(self, executor: str = "m1") -> FakeClaimer:
        return FakeClaimer(self.queue, executor)

    def keeper(self, executor: str = "m1") -> FakeLeaseKeeper:
        return FakeLeaseKeeper(self.queue, executor)

    def gang(self, executor: str = "m1") -> FakeGangLink:
        return FakeGangLink(self.queue, executor)


@pytest.fixture(params=["fake", "redis"])
def link(request: pytest.FixtureRequest) -> Iterator[Link]:
    if request.param == "fake":
        yield FakeLink()
        return
    made = RedisLink(request.getfixturevalue("redis_url"))
    yield made
    made.client.close()


def test_attempts_are_claimed_in_their_order_once(link: Link) -> None:
    claimer = link.claimer()
    assert claimer.claim(new_token()) is None
    link.enqueue(A)
    link.enqueue(B)
    assert claimer.claim(new_token()) == Claimed(A, f"spec of {A}")
    assert claimer.claim(new_token()) == Claimed(B, f"spec of {B}")
    assert claimer.claim(new_token()) is None
    claimer.close()


def test_a_repeated_claim_gets_the_same_attempt(link: Link) -> None:
    link.enqueue(A)
    link.enqueue(B)
    claimer, token = link.claimer(), new_token()
    assert claimer.claim(token) == claimer.claim(token) == Claimed(A, f"spec of {A}")
    claimer.close()


def test_a_staged_attempt_may_come_first(link: Link) -> None:
    link.enqueue(A)
    link.enqueue(B)
    claimer = link.claimer()
    claimed = claimer.claim(new_token(), B)
    assert claimed is not None
    assert claimed.attempt == B
    claimer.close()


def test_the_bell_rings_for_what_arrives(link: Link) -> None:
    claimer = link.claimer()
    assert not claimer.wait_for_bell(0.01)
    link.enqueue(A)
    assert claimer.wait_for_bell(1)
    claimer.close()


def test_a_lease_is_held_until_its_end_is_recorded(link: Link) -> None:
    link.enqueue(A)
    claimer, keeper, token = link.claimer(), link.keeper(), new_token()
    claimer.claim(token)
    assert [r.state for r in keeper.beat([HeldLease(A, token, 2, False)])] == ["held"]
    link.record(A, 2)
    assert [(r.state, r.recorded) for r in keeper.beat([HeldLease(A, token, 3, True)])] == [
        ("held", 2)
    ]
    link.record(A, 3)
    assert [r.state for r in keeper.beat([HeldLease(A, token, 3, True)])] == ["recorded"]
    claimer.close()
    keeper.close()


def test_a_lease_of_another_token_is_lost(link: Link) -> None:
    link.enqueue(A)
    claimer, keeper = link.claimer(), link.keeper()
    claimer.claim(new_token())
    assert [r.state for r in keeper.beat([HeldLease(A, "other", 1, False)])] == ["lost"]
    claimer.close()
    keeper.close()


def test_a_forgotten_lease_is_given_back(link: Link) -> None:
    link.enqueue(A)
    claimer, keeper, token = link.claimer(), link.keeper(), new_token()
    claimer.claim(token)
    link.forget_leases()
    assert [r.state for r in keeper.beat([HeldLease(A, token, 1, False)])] == ["held"]
    assert [r.state for r in keeper.beat([HeldLease(A, "other", 1, False)])] == ["lost"]
    claimer.close()
    keeper.close()


def test_one_attempt_is_staged_by_one_executor(link: Link) -> None:
    first, second = link.keeper("m1"), link.keeper("m2")
    assert first.stage() is None
    link.enqueue(A)
    assert first.stage() == Claimed(A, f"spec of {A}")
    assert first.stage(A) == "kept"
    assert second.stage() is None
    first.unstage(A)
    assert second.stage() == Claimed(A, f"spec of {A}")
    first.close()
    second.close()


def test_what_is_staged_and_claimed_is_not_kept(link: Link) -> None:
    keeper, claimer = link.keeper(), link.claimer("m2")
    link.enqueue(A)
    keeper.stage()
    claimer.claim(new_token())
    assert keeper.stage(A) is None
    keeper.close()
    claimer.close()


def test_members_are_known_while_the_lease_lasts(link: Link) -> None:
    link.enqueue(A)
    claimer, gang = link.claimer(), link.gang()
    link.set_gang(A, "m1", "m2")
    assert gang.members(A) == ()
    claimer.claim(new_token())
    assert gang.members(A) == ("m1", "m2")
    assert gang.gangs() == {A: ("m1", "m2")}
    assert gang.spec(A) == f"spec of {A}"
    gang.disband(A)
    assert gang.members(A) == ()
    gang.keep(A, ("m1", "m3"))
    assert gang.members(A) == ("m1", "m3")
    gang.send("m2", Message(Order.GANG_LEAVE, A))
    claimer.close()
    gang.close()


def test_beats_change_with_each_heartbeat(link: Link) -> None:
    gang, keeper = link.gang(), link.keeper("m2")
    assert gang.beats(("m2", "m3")) == {"m2": 0, "m3": 0}
    keeper.beat([])
    assert gang.beats(("m2",))["m2"] > 0
    keeper.close()
    gang.close()
