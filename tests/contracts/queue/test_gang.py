"""Machines that work together: one of them claims for all, or none does."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from executor.link.lease import new_token
from executor.link.mpi import READY_S, GangClaimer, GangLink
from scheduler.queue import acl
from simherd.contract.inbox import Message, Order
from simherd.contract.queue.keys import GroupKeys
from tests.support.queue import held_in, waiting_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from simherd.contract.queue.scripts import Claimed
    from tests.support.queue import Side


class Machines:
    """The machines of a group, by their names."""

    def __init__(self, side: Side, number: int) -> None:
        self.side, self.number = side, number
        self.link = GangLink(side.url, side.group, "m0")
        self._claimers: dict[str, GangClaimer] = {}

    def claimer(self, name: str) -> GangClaimer:
        if name not in self._claimers:
            side = self.side
            self._claimers[name] = GangClaimer(side.url, side.group, name, self.number)
        return self._claimers[name]

    def claim(self, name: str, token: str = "") -> Claimed | None:
        return self.claimer(name).claim(token or new_token())

    def close(self) -> None:
        self.link.close()
        for claimer in self._claimers.values():
            claimer.close()


@pytest.fixture
def three(side: Side) -> Iterator[Machines]:
    made = Machines(side, 3)
    yield made
    made.close()


def test_nobody_gets_anything_until_all_are_free(three: Machines) -> None:
    three.side.enqueue("a:1")
    assert three.claim("m1") is None
    assert three.claim("m2") is None
    assert three.claim("m1") is None
    assert three.claim("m3") is None
    claimed = three.claim("m1")
    assert claimed is not None
    assert (claimed.attempt, claimed.spec) == ("a:1", "spec of a:1")
    assert three.link.members("a:1") == ("m1", "m2", "m3")
    assert three.side.queue.reader.mpi_groups(three.side.group) == {"a:1": ("m1", "m2", "m3")}


def test_whoever_belongs_to_one_gang_is_free_for_no_other(three: Machines) -> None:
    side = three.side
    side.enqueue("a:1", order=1)
    side.enqueue("b:1", order=2)
    for name in ("m3", "m2", "m1"):
        three.claim(name)
    assert held_in(side.queue, side.group) == ["a:1"]
    for name in ("m3", "m2", "m1", "m2", "m3", "m1"):
        assert three.claim(name) is None
    assert held_in(side.queue, side.group) == ["a:1"]
    three.link.disband("a:1")
    for name in ("m3", "m2"):
        assert three.claim(name) is None
    claimed = three.claim("m1")
    assert claimed is not None
    assert claimed.attempt == "b:1"


def test_a_repeated_claim_gets_the_same_answer(three: Machines) -> None:
    three.side.enqueue("a:1", order=1)
    three.side.enqueue("b:1", order=2)
    three.claim("m2")
    three.claim("m3")
    token = new_token()
    assert three.claim("m1", token) == three.claim("m1", token)
    assert waiting_in(three.side.queue.servers.main, three.side.group) == ["b:1"]


def test_one_that_was_silent_does_not_count(three: Machines, client: redis.Redis) -> None:
    three.side.enqueue("a:1")
    three.claim("m1")
    three.claim("m2")
    keys = GroupKeys(three.side.group)
    client.zincrby(keys.ready, -1000 * READY_S - 1, "m2")
    three.claim("m3")
    assert three.claim("m1") is None
    three.claim("m2")
    assert three.claim("m1") is not None


def test_a_gang_whose_lease_is_gone_has_ended(three: Machines) -> None:
    side = three.side
    side.enqueue("a:1")
    for name in ("m3", "m2", "m1"):
        three.claim(name)
    side.queue.revoke(side.group, "a:1")
    assert three.link.members("a:1") == ()
    assert side.queue.reader.mpi_groups(side.group) == {}
    side.enqueue("a:2")
    # Its leader may not have heard of it.
    three.link.keep("a:1", ("m1", "m2", "m3"))
    for name in ("m3", "m2"):
        three.claim(name)
    claimed = three.claim("m1")
    assert claimed is not None
    assert claimed.attempt == "a:2"
    assert three.link.gangs() == {"a:2": ("m1", "m2", "m3")}


def test_more_machines_than_there_should_be_make_one_gang(three: Machines) -> None:
    three.side.enqueue("a:1")
    for name in ("m1", "m2", "m3", "m4", "m1"):
        three.claim(name)
    assert three.link.members("a:1") == ("m1", "m2", "m3")


def test_racing_machines_make_one_gang_at_a_time(side: Side) -> None:
    attempts = [f"t{number}:1" for number in range(20)]
    for order, attempt in enumerate(attempts):
        side.enqueue(attempt, order=order)
    most, got, over = [0], [], threading.Event()

    def machine(name: str) -> None:
        machines = Machines(side, 4)
        while not over.is_set():
            claimed = machines.claim(name)
            if claimed is not None:
                most[0] = max(most[0], len(side.queue.reader.mpi_groups(side.group)))
                got.append(claimed.attempt)
                if len(got) == len(attempts):
                    over.set()
                machines.link.disband(claimed.attempt)
        machines.close()

    threads = [threading.Thread(target=machine, args=(f"m{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    over.set()
    assert (got, most) == (attempts, [1])


def test_a_machine_may_write_to_those_of_its_group_and_to_no_other(
    side: Side, client: redis.Redis
) -> None:
    digest = "5" * 64
    acl.grant_acl(client, side.group, "m1", [digest], gangs=True)
    acl.grant_acl(client, side.group, "m2", [digest])
    inbox = GroupKeys(side.group).inbox("m3")
    allowed = [_may(client, name, "XADD", inbox) for name in ("m1", "m2")]
    assert allowed == [True, False]
    assert not _may(client, "m1", "XADD", GroupKeys("another").inbox("m3"))
    for name in ("m1", "m2"):
        acl.revoke_acl(client, name)


def _may(client: redis.Redis, machine: str, command: str, key: str) -> bool:
    """Whether the machine's rules name the key's pattern; Redis 6.2 has no dry run."""
    rules = client.execute_command("ACL", "GETUSER", f"machine-{machine}")  # type: ignore[no-untyped-call]
    text = str(rules)
    return key in text or f"{key.rpartition(':')[0]}:*" in text


def test_messages_between_machines_are_read_as_they_were_written() -> None:
    written = Message(Order.GANG_RUN, "a:1", body={"request": "0-7-1", "line": "orted"})
    assert Message.decode(written.encode()) == written
