"""Each script's replies, one test a word."""

from __future__ import annotations

import json
import time
import zipfile
from importlib.resources import files
from typing import TYPE_CHECKING, Any, get_args

import pytest

from executor.link.lease import HeldLease, LeaseKeeper, new_token
from simherd.contract import queue as contract_queue
from simherd.contract.inbox import Message, Order
from simherd.contract.queue.keys import GroupKeys
from simherd.contract.queue.scripts import Name, source, sources_of_agents
from tests.conftest import REPOSITORY
from tests.support.queue import held_in, waiting_in

if TYPE_CHECKING:
    import redis

    from tests.support.queue import Side


def held(attempt: str, token: str, last: int = 0, ended: bool = False) -> HeldLease:
    return HeldLease(attempt, token, last, ended)


def test_enqueue_queues_and_rings_once(side: Side, client: redis.Redis) -> None:
    assert side.enqueue("a:1") == "queued"
    assert side.enqueue("a:1") == "present"
    assert client.llen(GroupKeys(side.group).bell) == 1
    assert waiting_in(side.queue.servers.main, side.group) == ["a:1"]


def test_enqueue_leaves_a_held_attempt_alone(side: Side) -> None:
    side.enqueue("a:1")
    side.claim()
    assert side.enqueue("a:1") == "held"
    assert waiting_in(side.queue.servers.main, side.group) == []


def test_claim_takes_the_first_in_order(side: Side) -> None:
    side.enqueue("late:1", order=3)
    side.enqueue("early:1", order=1)
    assert side.queue.reader.position(side.group, "late:1") == 1
    first = side.claim()
    assert first is not None
    assert (first.attempt, first.spec) == ("early:1", "spec of early:1")
    assert side.queue.reader.position(side.group, "late:1") == 0
    assert side.queue.reader.position(side.group, "early:1") is None


def test_claim_of_an_empty_queue(side: Side) -> None:
    assert side.claim() is None


def test_a_repeated_claim_gets_the_same_answer(side: Side) -> None:
    side.enqueue("a:1", order=1)
    side.enqueue("b:1", order=2)
    token = new_token()
    assert side.claim(token=token) == side.claim(token=token)
    assert waiting_in(side.queue.servers.main, side.group) == ["b:1"]


def test_renew_holds_extends_and_notes_the_heartbeat(side: Side, client: redis.Redis) -> None:
    side.enqueue("a:1")
    token = new_token()
    side.claim(token=token)
    client.zadd(GroupKeys(side.group).leases, {"a:1": 1})
    assert [o.attempt for o in side.queue.reader.leases(side.group).overdue] == ["a:1"]
    assert side.states(held("a:1", token)) == ["held"]
    expiry = side.queue.reader.leases(side.group)
    assert (expiry.overdue, len(expiry.all)) == ((), 1)
    assert side.queue.reader.heartbeats(side.group)["m1"] * 1000 == pytest.approx(
        expiry.now_ms, abs=5000
    )


def test_renew_gives_a_forgotten_lease_back(side: Side, client: redis.Redis) -> None:
    """What happens after Redis lost everything."""
    side.enqueue("a:1")
    token = new_token()
    side.claim(token=token)
    for key in client.scan_iter(f"simherd:{{{side.group}}}:*"):
        client.delete(key)
    assert side.states(held("a:1", token)) == ["held"]
    assert held_in(side.queue, side.group) == ["a:1"]


def test_renew_tells_another_tokens_holder_that_it_lost(side: Side) -> None:
    side.enqueue("a:1")
    side.claim(token=new_token())
    assert side.states(held("a:1", "another"), executor="m2") == ["lost"]


def test_a_revoked_lease_stays_lost(side: Side) -> None:
    side.enqueue("a:1")
    token = new_token()
    side.claim(token=token)
    assert side.queue.revoke(side.group, "a:1") == "m1"
    assert side.queue.revoke(side.group, "a:1") == ""
    assert side.states(held("a:1", token)) == ["lost"]
    assert held_in(side.queue, side.group) == []


def test_renew_lets_go_of_what_is_recorded_to_the_end(side: Side, client: redis.Redis) -> None:
    side.enqueue("a:1")
    token = new_token()
    side.claim(token=token)
    keys = GroupKeys(side.group)
    client.hset(keys.recorded, "a:1", "3")
    assert side.beat(held("a:1", token, 4, ended=True))[0].recorded == 3
    assert side.states(held("a:1", token, 4, ended=True)) == ["held"]
    client.hset(keys.recorded, "a:1", "4")
    assert side.states(held("a:1", token, 4, ended=True)) == ["recorded"]
    assert held_in(side.queue, side.group) == []
    assert client.hlen(keys.specs) == client.hlen(keys.recorded) == 0


def test_withdraw_says_where_the_attempt_is(side: Side) -> None:
    side.enqueue("a:1")
    assert side.queue.withdraw(side.group, "a:1") == ("withdrawn", None)
    assert side.queue.withdraw(side.group, "a:1") == ("absent", None)
    side.enqueue("b:1")
    side.claim("m7")
    assert side.queue.withdraw(side.group, "b:1") == ("held", "m7")
    side.queue.revoke(side.group, "b:1")
    assert side.queue.withdraw(side.group, "b:1") == ("absent", None)


def test_only_leases_that_have_run_out_are_overdue(side: Side, client: redis.Redis) -> None:
    side.enqueue("a:1", order=1)
    side.enqueue("b:1", order=2)
    side.claim("m1")
    side.claim("m2")
    side.beat(executor="m1")
    client.zadd(GroupKeys(side.group).leases, {"a:1": 1})
    expiry = side.queue.reader.leases(side.group)
    assert len(expiry.all) == 2
    assert [(o.attempt, o.holder, o.expiry_ms) for o in expiry.overdue] == [("a:1", "m1", 1.0)]
    assert expiry.seen_ms["m1"] > 0
    assert held_in(side.queue, side.group) != []


def test_a_scripts_text_is_short_and_says_its_replies() -> None:
    names: tuple[Name, ...] = get_args(Name)
    for name in names:
        assert "-- Replies" in source(name), name
    for file in files(contract_queue).iterdir():
        if file.name.endswith(".lua"):
            text = file.read_text()
            assert len(text.splitlines()) <= 50, file.name
            assert "cjson" not in text, file.name


def test_the_scripts_of_the_release_before_are_loaded_as_its_agents_name_them() -> None:
    """By the digest of their text: a changed byte, and they find none after a restart of Redis."""
    with zipfile.ZipFile(next((REPOSITORY / "tests/releases").glob("*.whl"))) as wheel:

        def text(*names: str) -> str:
            parts = (wheel.read(f"simherd/contract/queue/{name}.lua") for name in names)
            return b"".join(parts).decode()

        wanted = {
            text("left", "take", "claim"),
            text("left", "take", "gather"),
            text("renew"),
            text("stage"),
        }
    assert wanted <= set(sources_of_agents())


def test_an_acl_user_of_one_group_can_do_all_of_it_and_nothing_else(
    side: Side, client: redis.Redis, redis_url: str
) -> None:
    """Key discipline: the scripts touch only keys of their own group."""
    rules = [f"~simherd:{{{side.group}}}:*", "+@all", "on", ">secret"]
    client.execute_command("ACL", "SETUSER", side.group, *rules)  # type: ignore[no-untyped-call]
    inside = type(side)(
        side.group, redis_url.replace("redis://", f"redis://{side.group}:secret@"), side.queue
    )
    side.enqueue("a:1")
    token = new_token()
    claimed = inside.claim(token=token)
    assert claimed is not None
    assert json.dumps(claimed.spec)
    assert inside.states(held("a:1", token)) == ["held"]
    foreign = type(side)("another-group", inside.url, side.queue)
    with pytest.raises(Exception, match=r"(?i)no permissions|can't access"):
        foreign.claim()
    client.execute_command("ACL", "DELUSER", side.group)  # type: ignore[no-untyped-call]


def test_an_executor_that_vanished_keeps_nothing_staged(side: Side, client: redis.Redis) -> None:
    side.enqueue("a:1")
    keys = GroupKeys(side.group)
    keeper = LeaseKeeper(side.url, side.group, "m2")
    client.hset(keys.staged, "a:1", f"{1000 * (time.time() + 60):.0f}:m1")
    assert side.queue.reader.prefetcher(side.group, "a:1") == "m1"
    assert keeper.stage() is None
    client.hset(keys.staged, "a:1", f"{1000 * (time.time() - 1):.0f}:m1")
    assert side.queue.reader.prefetcher(side.group, "a:1") is None
    assert keeper.stage() is not None
    assert side.queue.reader.prefetcher(side.group, "a:1") == "m2"
    keeper.close()


def test_who_fetches_for_a_withdrawn_attempt_is_told(side: Side, client: redis.Redis) -> None:
    side.enqueue("a:1")
    keeper = LeaseKeeper(side.url, side.group, "m1")
    keeper.stage()
    keeper.close()
    assert side.queue.withdraw(side.group, "a:1") == ("withdrawn", None)
    entries: Any = client.xrange(GroupKeys(side.group).inbox("m1"))
    (entry,) = entries
    message = Message.decode(entry[1]["m"])
    assert (message.order, message.attempt) == (Order.UNSTAGE, "a:1")
