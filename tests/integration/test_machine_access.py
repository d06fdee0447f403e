"""What lets a machine in, how far, and until when."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from executor.link.lease import LeaseKeeper
from scheduler.domain.limits import MAIN_SERVER
from scheduler.queue.acl import machines_with_acl
from scheduler.services.control.orphans import revoke_again
from scheduler.services.control.sweep import sweep
from scheduler.services.errors import Forbidden
from scheduler.services.machines import access
from simherd.contract.join import digest, redis_user
from simherd.contract.queue.keys import GroupKeys
from tests.support.api import serving, user_of
from tests.support.cloud import Fleet, open_fleet, raw

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.store.engine import Store


@pytest.fixture
def fleet(store: Store, database_url: str, redis_url: str, tmp_path: Path) -> Fleet:
    return open_fleet(database_url, redis_url, tmp_path)


def test_a_ticket_is_good_once_for_one_and_not_for_long(fleet: Fleet) -> None:
    group = fleet.group(num_machines=1)
    (machine,) = fleet.scale(group)
    token = fleet.cloud.plans[-1].ticket.token
    mine = digest("my secret")
    first = access.join(fleet.rt, token, mine)
    # The answer was lost: the same machine asks again.
    assert access.join(fleet.rt, token, mine) == first
    with pytest.raises(Forbidden, match="used by another"):
        access.join(fleet.rt, token, digest("another's secret"))
    with pytest.raises(Forbidden, match="not known"):
        access.join(fleet.rt, "join_guessed", mine)
    fleet.set(machine, join_expires_at=time.time() - 1)
    with pytest.raises(Forbidden, match="too old"):
        access.join(fleet.rt, token, mine)


def test_a_changed_secret_ends_the_old_one(fleet: Fleet) -> None:
    group = fleet.group(num_machines=1)
    (machine,) = fleet.scale(group)
    old = fleet.join(machine)
    access.change_secret(fleet.rt, machine.id, old, digest("new"))
    # The answer was lost: it is told again, with the old secret.
    access.change_secret(fleet.rt, machine.id, old, digest("new"))
    LeaseKeeper(fleet.address(machine.id, "new"), group.id, machine.id).beat([])
    with pytest.raises(redis.AuthenticationError):
        LeaseKeeper(fleet.address(machine.id, old), group.id, machine.id).beat([])
    with pytest.raises(Forbidden):
        access.change_secret(fleet.rt, machine.id, old, digest("third"))


@pytest.mark.fault("B21")
def test_what_a_machines_credentials_cannot_do(fleet: Fleet) -> None:
    group, others = fleet.group(num_machines=2), fleet.group(num_machines=1)
    mine, neighbour = fleet.scale(group)
    (stranger,) = fleet.scale(others)
    secret = fleet.join(mine)
    keys, foreign = GroupKeys(group.id), GroupKeys(others.id)
    me = redis.Redis.from_url(
        fleet.redis_url, username=redis_user(mine.id), password=secret, decode_responses=True
    )
    assert me.hset(keys.facts, mine.id, "{}") in {0, 1}
    denied: list[tuple[Any, ...]] = [
        ("ZRANGE", foreign.queue, 0, -1),
        ("XADD", foreign.events, "*", "e", "{}"),
        ("XREAD", "STREAMS", keys.inbox(neighbour.id), "0"),
        ("XADD", foreign.inbox(stranger.id), "*", "m", "{}"),
        ("GET", "simherd:epoch"),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("EVAL", "return redis.call('KEYS', '*')", 0),
        ("SCRIPT", "LOAD", "return 1"),
        ("SUBSCRIBE", "anything"),
        ("DEBUG", "SLEEP", "0"),
        ("CLIENT", "LIST"),
        ("MONITOR",),
        ("SHUTDOWN",),
    ]
    for words in denied:
        with pytest.raises(redis.exceptions.NoPermissionError):
            raw(me, *words)
    # Nor do they open the broker's database to it, where the scheduler's own jobs are.
    with pytest.raises(redis.exceptions.NoPermissionError):
        raw(me, "SELECT", 1)
    # And the scheduler's API knows them for what a machine says of itself alone.
    access.revoke(fleet.rt, group.id, [mine.id])
    with pytest.raises(redis.RedisError):
        me.hset(keys.facts, mine.id, "{}")
    me.close()


def test_users_are_restored_in_a_redis_that_lost_them(fleet: Fleet) -> None:
    group = fleet.group(num_machines=1)
    (machine,) = fleet.scale(group)
    secret = fleet.join(machine)
    access.restore_access(fleet.rt, MAIN_SERVER)
    raw(fleet.rt.queue.servers.main, "ACL", "DELUSER", redis_user(machine.id))
    fleet.rt.queue.servers.main.script_flush()
    fleet.rt.queue.servers.main.flushdb()
    sweep(fleet.rt, started_at=time.time())
    keeper = LeaseKeeper(fleet.address(machine.id, secret), group.id, machine.id)
    assert keeper.beat([]) == []
    keeper.close()


def test_redis_users_of_machines_that_are_gone_are_removed(fleet: Fleet) -> None:
    group = fleet.group(num_machines=1)
    (machine,) = fleet.scale(group)
    fleet.join(machine)
    raw(fleet.rt.queue.servers.main, "ACL", "SETUSER", redis_user("ghost-of-it"), "on")
    assert "ghost-of-it" in revoke_again(fleet.rt)
    assert machine.id in machines_with_acl(fleet.rt.queue.servers.main)
    assert "ghost-of-it" not in machines_with_acl(fleet.rt.queue.servers.main)


@pytest.mark.fault("B9")
@pytest.mark.parametrize("at", ["1e308", "-1", "NaN", '"soon"'])
def test_a_reclaim_at_a_time_that_cannot_be_is_refused(fleet: Fleet, at: str) -> None:
    group = fleet.group(num_machines=1)
    (machine,) = fleet.scale(group)
    credentials = {"X-Machine-Id": machine.id, "X-Machine-Secret": fleet.join(machine)}
    headers = {**credentials, "Content-Type": "application/json"}
    body = f'{{"reclaim_at": {at}}}'
    with serving(fleet.rt) as url, user_of(url) as http:
        refused = http.post("/v1/machines/notice", content=body, headers=headers)
    assert refused.status_code in {400, 422}, refused.text
    assert "reclaim_at" in refused.json()["detail"]
