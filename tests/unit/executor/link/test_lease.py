"""Claims and heartbeats: what goes to Redis, and what comes of its replies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import redis

from executor.link.connection import Address, connect
from executor.link.lease import Claimer, HeldLease, LeaseKeeper, new_token
from executor.link.mpi import READY_S, GangClaimer, GangLink
from simherd.contract import limits
from simherd.contract.inbox import Message, Order
from simherd.contract.queue.keys import GroupKeys
from simherd.contract.queue.scripts import Claimed, Renewal
from tests.support.redis_wire import RedisFault, ScriptedRedis

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = GroupKeys("g")


@pytest.fixture
def server() -> Iterator[ScriptedRedis]:
    with ScriptedRedis() as scripted:
        yield scripted


def arguments(server: ScriptedRedis) -> list[str]:
    """The arguments of the last script, without its digest and its keys."""
    sent = server.sent("EVALSHA")[-1]
    return sent[2 + int(sent[1]) :]


@pytest.mark.parametrize(
    ("reply", "claimed"),
    [
        (["empty"], None),
        (["claimed", "t1:1", "{}"], Claimed("t1:1", "{}")),
        (["claimed", "t2:3", '{"a":1}'], Claimed("t2:3", '{"a":1}')),
    ],
)
def test_a_claim_returns_the_attempt_or_none(
    server: ScriptedRedis, reply: list[str], claimed: Claimed | None
) -> None:
    server.reply = lambda _name, _args: reply
    claimer = Claimer(server.url, "g", "m1")
    assert claimer.claim("secret", "t9:1") == claimed
    lease_ms = str(int(limits.LEASE_S * 1000))
    sent = arguments(server)
    assert sent[:4] == [KEYS.lease_prefix, "m1", "secret", lease_ms]
    assert sent[5] == "t9:1"
    claimer.close()


@pytest.mark.parametrize(("reply", "rang"), [(["bell", "1"], True), (None, False)])
def test_the_bell_rings_or_the_time_passes(server: ScriptedRedis, reply: Any, rang: bool) -> None:
    server.reply = lambda _name, _args: reply
    claimer = Claimer(server.url, "g", "m1")
    assert claimer.wait_for_bell(3) is rang
    assert server.sent("BLPOP") == [[KEYS.bell, "3"]]
    claimer.interrupt()
    claimer.close()


def test_a_refused_claim_is_an_error(server: ScriptedRedis) -> None:
    def refuse(_name: str, _args: list[str]) -> Any:
        raise RedisFault("NOPERM no permission")

    server.reply = refuse
    claimer = Claimer(server.url, "g", "m1")
    with pytest.raises(redis.RedisError):
        claimer.claim("secret")
    claimer.close()


def test_tokens_are_secrets_of_128_bits() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(bytes.fromhex(token)) == 16 for token in tokens)


@pytest.mark.parametrize("state", ["held", "lost", "recorded"])
def test_a_heartbeat_presents_leases_and_returns_their_states(
    server: ScriptedRedis, state: Any
) -> None:
    server.reply = lambda _name, _args: [["t1:1", state, "4"]]
    keeper = LeaseKeeper(server.url, "g", "m1")
    held = [HeldLease("t1:1", "a", 4, ended=True), HeldLease("t2:1", "b", 0, ended=False)]
    assert keeper.beat(held) == [Renewal("t1:1", state, 4)]
    assert arguments(server)[3:] == ["t1:1", "a", "4", "1", "t2:1", "b", "0", "0"]
    keeper.close()


def test_a_heartbeat_without_leases_still_shows_that_the_machine_lives(
    server: ScriptedRedis,
) -> None:
    server.reply = lambda _name, _args: []
    keeper = LeaseKeeper(server.url, "g", "m1")
    assert keeper.beat([]) == []
    assert len(server.sent("EVALSHA")) == 1
    keeper.close()


@pytest.mark.parametrize(
    ("reply", "staged"),
    [
        (["kept"], "kept"),
        (["stage", "t1:1", "{}"], Claimed("t1:1", "{}")),
        (["none"], None),
    ],
)
def test_staging_chooses_keeps_or_finds_nothing(
    server: ScriptedRedis, reply: list[str], staged: object
) -> None:
    server.reply = lambda _name, _args: reply
    keeper = LeaseKeeper(server.url, "g", "m1")
    assert keeper.stage("t1:1") == staged
    keeper.unstage("t1:1")
    assert server.sent("HDEL") == [[KEYS.staged, "t1:1"]]
    keeper.close()


def test_the_machines_facts_are_published_as_json(server: ScriptedRedis) -> None:
    keeper = LeaseKeeper(server.url, "g", "m1")
    keeper.publish_facts({"slots": 2, "waits_for": None})
    [[key, machine, text]] = server.sent("HSET")
    assert (key, machine) == (KEYS.facts, "m1")
    assert json.loads(text) == {"slots": 2, "waits_for": None}
    keeper.close()


def test_a_call_is_repeated_after_a_lost_connection_unless_that_does_harm() -> None:
    with ScriptedRedis() as server:
        url = server.url
    client = connect(url, retries=0)
    with pytest.raises(redis.ConnectionError):
        client.ping()


def test_the_secret_is_read_again_for_each_connection() -> None:
    secrets = iter(["first", "second"])
    address = Address("redis://x", "user", lambda: next(secrets))
    assert address.credentials is not None
    assert address.credentials.get_credentials() == ("user", "first")
    assert address.credentials.get_credentials() == ("user", "second")
    assert Address("redis://x").credentials is None


# --- machines that work together -------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "claimed"),
    [
        (["claimed", "t1:1", "{}", "m1,m2"], Claimed("t1:1", "{}")),
        (["member", "t1:1", "m2"], None),
        (["empty"], None),
        (["gather"], None),
        (["follow"], None),
    ],
)
def test_only_the_leader_of_a_gang_is_given_the_attempt(
    server: ScriptedRedis, reply: list[str], claimed: Claimed | None
) -> None:
    server.reply = lambda _name, _args: reply
    claimer = GangClaimer(server.url, "g", "m1", 2)
    assert claimer.claim("secret") == claimed
    sent = arguments(server)
    assert sent[-2:] == ["2", str(int(READY_S * 1000))]
    claimer.close()


@pytest.mark.parametrize(("word", "waits_at_the_bell"), [("empty", True), ("follow", False)])
def test_only_a_machine_with_nothing_to_do_waits_at_the_bell(
    server: ScriptedRedis, word: str, waits_at_the_bell: bool
) -> None:
    server.reply = lambda name, _args: [word] if name == "EVALSHA" else ["bell", "1"]
    claimer = GangClaimer(server.url, "g", "m1", 2)
    claimer.claim("secret")
    claimer.interrupt()
    assert claimer.wait_for_bell(60) is True
    assert bool(server.sent("BLPOP")) is waits_at_the_bell
    claimer.close()


def test_a_message_goes_to_the_inbox_of_the_other_machine(server: ScriptedRedis) -> None:
    link = GangLink(server.url, "g", "m1")
    message = Message(Order.GANG_JOIN, "t1:1", body={"leader": "m1"})
    link.send("m2", message)
    [added] = server.sent("XADD")
    assert added[0] == KEYS.inbox("m2")
    assert Message.decode(added[-1]) == message
    assert server.sent("EXPIRE") == [[KEYS.inbox("m2"), str(int(limits.TOMBSTONE_S))]]
    link.close()


@pytest.mark.parametrize(
    ("score", "names", "members"),
    [("7", "m1,m2", ("m1", "m2")), ("7", None, ()), (None, "m1,m2", ())],
)
def test_members_are_known_while_the_lease_lives(
    server: ScriptedRedis, score: str | None, names: str | None, members: tuple[str, ...]
) -> None:
    server.reply = lambda name, _args: score if name == "ZSCORE" else names
    link = GangLink(server.url, "g", "m1")
    assert link.members("t1:1") == members
    link.close()


def test_a_gang_that_cannot_be_disbanded_now_does_no_harm(server: ScriptedRedis) -> None:
    def refuse(_name: str, _args: list[str]) -> Any:
        raise RedisFault("READONLY")

    server.reply = refuse
    link = GangLink(server.url, "g", "m1")
    link.disband("t1:1")
    with pytest.raises(redis.RedisError):
        link.gangs()
    link.close()


def test_an_mpi_group_lists_its_machines(server: ScriptedRedis) -> None:
    replies: dict[str, Any] = {
        "HGETALL": {"t1:1": "m1,m2"},
        "HGET": "{}",
        "ZSCORE": "12.5",
        "HSET": 1,
    }
    server.reply = lambda name, _args: replies[name]
    link = GangLink(server.url, "g", "m1")
    assert link.gangs() == {"t1:1": ("m1", "m2")}
    assert link.spec("t1:1") == "{}"
    assert link.beats(("m1", "m2")) == {"m1": 12.5, "m2": 12.5}
    link.keep("t1:1", ("m1", "m2"))
    assert server.sent("HSET") == [[KEYS.gangs, "t1:1", "m1,m2"]]
    link.close()
