"""Redis at its memory limit, and groups that take too much of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import redis
from sqlalchemy import select

from scheduler.domain.limits import MAIN_SERVER
from scheduler.health import dependencies
from scheduler.queue.memory import UsageClock, memory_of
from scheduler.services.accounts.users import create_key
from scheduler.services.control import redis_usage
from scheduler.services.control.quarantine import repair_group
from scheduler.services.control.redis_usage import GROUP_REDIS_KEYS, MACHINE_REDIS_CONNECTIONS
from scheduler.services.control.sweep import sweep
from scheduler.services.tasks.kill import kill_task
from scheduler.store.models import TaskRow
from simherd.contract.lifecycle import Status
from simherd.contract.queue.keys import GroupKeys
from tests.support import servers
from tests.support.api import serving, user_of
from tests.support.cloud import Fleet, open_fleet
from tests.support.hostile import client_of
from tests.support.runtime import recording
from tests.support.tenants import Tenant
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scheduler.store.engine import Store

_MIB = 1024**2


@pytest.fixture
def fleet(store: Store, database_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet on a Redis of this test's own: it is filled."""
    with servers.redis_server() as url:
        made = open_fleet(database_url, url, tmp_path)
        yield made
        made.rt.queue.servers.main.close()


def _limit(fleet: Fleet, room: int) -> None:
    """Let Redis have so much more than it uses; with less than it uses, nothing can be added."""
    client = fleet.rt.queue.servers.main
    client.config_set("maxmemory", memory_of(client).used + room)
    if room < 0:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("one more", "x")


def _submission(group: str) -> dict[str, object]:
    return {
        "simulator": "arbitrary_commands",
        "resource_pool": group,
        "container_image": "any",
        "extra_params": {"commands": [{"cmd": "true"}]},
    }


def test_at_the_memory_limit_running_tasks_continue_and_no_new_ones_are_accepted(
    fleet: Fleet,
) -> None:
    tenant, rt = Tenant(fleet), fleet.rt
    machine, doomed = tenant.honest(), tenant.task()
    task = tenant.task()
    assert machine.claim() == f"{doomed.id}:1"
    with rt.store.write() as session:
        key = create_key(session, tenant.group.user_id, "t")
    ready = dependencies(rt)
    assert ready.ask()["redis"] is None
    with serving(rt) as url, user_of(url, key) as user, recording(rt):
        waits = user.post("/tasks/submit", json=_submission(tenant.group.id)).json()["id"]
        machine.report()
        until(lambda: _status(fleet, doomed.id) == Status.STARTED, what="the start")
        _limit(fleet, -_MIB // 4)
        # Submissions say so, and when to try again; so does one whose inputs arrive just now.
        for asked in ("/tasks/submit", f"/tasks/{waits}/input_uploaded"):
            refused = user.post(asked, json=_submission(tenant.group.id))
            assert refused.status_code == 503, refused.text
            assert int(refused.headers["Retry-After"]) > 0
            assert "memory is full" in refused.json()["detail"]
        assert _status(fleet, waits) == Status.PENDING_INPUT
        until(lambda: "memory limit" in (ready.ask()["redis"] or ""), what="/readyz to say so")
        # Who works keeps its lease and can be told to stop; the sweep has nothing to complain of.
        assert machine.beat() == "held"
        sweep(rt, 0)
        kill_task(rt, doomed.user_id, doomed.id, discard=False)
        inbox = GroupKeys(tenant.group.id).inbox(machine.id)
        assert rt.queue.servers.main.xlen(inbox) > 0
        assert machine.beat() == "held"
        # What waits is still given away.
        other = tenant.honest()
        assert other.claim() == f"{task.id}:1"
        # Once there is room, it is as it was.
        _limit(fleet, 64 * _MIB)
        until(lambda: ready.ask()["redis"] is None, what="/readyz to be well")
        taken = until(
            lambda: _accepted(user, tenant.group.id), what="a submission that is taken again"
        )
        assert _status(fleet, taken) == Status.PENDING_INPUT
    machine.close()
    other.close()


def _accepted(user: object, group: str) -> str | None:
    answer = user.post("/tasks/submit", json=_submission(group))  # type: ignore[attr-defined]
    return answer.json()["id"] if answer.is_success else None


def _status(fleet: Fleet, task_id: str) -> Status:
    with fleet.rt.store.read() as session:
        return Status(session.scalars(select(TaskRow.status).where(TaskRow.id == task_id)).one())


def test_a_group_that_uses_too_much_is_cut_off_and_the_others_continue(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_usage, "GROUP_REDIS_BYTES", 2 * _MIB)
    monkeypatch.setattr(redis_usage, "MACHINE_REDIS_BYTES", 0)
    thief, other = Tenant(fleet), Tenant(fleet)
    stranger, machine, rt = thief.stolen(), other.honest(), fleet.rt
    other.task()
    machine.claim()
    for number in range(100):
        stranger.client.hset(stranger.keys.facts, f"made-up-{number}", "x" * 64 * 1024)
    sweep(rt, 0)
    group = fleet.now(thief.group)
    assert group.quarantined_at is not None
    assert "MiB of Redis" in (group.quarantine_reason or "")
    with pytest.raises(redis.RedisError):
        stranger.client.hset(stranger.keys.facts, "again", "x")
    assert not list(rt.queue.servers.main.scan_iter(stranger.keys.every))
    assert fleet.now(other.group).quarantined_at is None
    assert machine.beat() == "held"
    # Repaired, the machine is let in with the secret that it has, and the task waits again.
    repair_group(rt, "operator", thief.group.id)
    honest = thief.honest()
    assert honest.claim() == f"{stranger.task}:1"
    for closed in (honest, machine):
        closed.close()
    stranger.client.close()


def test_keys_are_counted_also_those_that_machines_make_up(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_usage, "MACHINE_REDIS_KEYS", 100)
    thief = Tenant(fleet)
    stranger, clock = thief.stolen(), fleet.rt.usage_clock
    sweep(fleet.rt, 0)
    assert fleet.now(thief.group).quarantined_at is None
    pipe = stranger.client.pipeline(transaction=False)
    for number in range(GROUP_REDIS_KEYS + 200):
        pipe.set(f"{stranger.keys.old_claim_prefix}{number}", "x")
        pipe.set(stranger.keys.lease_prefix.encode() + b"\xff%d" % number, "x")
    pipe.execute()
    # Measured now and then only, where Redis is not pressed for memory.
    assert not clock.is_due(MAIN_SERVER)
    monkeypatch.setattr(UsageClock, "is_due", lambda *_: True)
    sweep(fleet.rt, 0)
    assert "keys in Redis" in (fleet.now(thief.group).quarantine_reason or "")
    assert not list(fleet.rt.queue.servers.main.scan_iter(stranger.keys.every))
    stranger.client.close()


def test_a_machine_with_too_many_connections_is_cut_off(fleet: Fleet) -> None:
    thief, other = Tenant(fleet), Tenant(fleet)
    stranger, clients = thief.stolen(), []
    for _ in range(MACHINE_REDIS_CONNECTIONS + 1):
        clients.append(client_of(fleet.redis_url, thief.machine, thief.secret))
        clients[-1].ping()
    sweep(fleet.rt, 0)
    assert "connections to Redis" in (fleet.now(thief.group).quarantine_reason or "")
    for client in clients:
        with pytest.raises(redis.RedisError):
            client.ping()
        client.close()
    assert fleet.now(other.group).quarantined_at is None
    stranger.client.close()


def test_the_recorder_relieves_a_redis_that_is_full(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep is a job of Celery's, whose broker may be on the same server: at the limit it is
    refused, too."""
    monkeypatch.setattr(redis_usage, "GROUP_REDIS_BYTES", 2 * _MIB)
    monkeypatch.setattr(redis_usage, "MACHINE_REDIS_BYTES", 0)
    thief = Tenant(fleet)
    stranger = thief.stolen()
    for number in range(100):
        stranger.client.hset(stranger.keys.facts, f"made-up-{number}", "x" * 64 * 1024)
    _limit(fleet, -_MIB // 4)
    with recording(fleet.rt):
        until(lambda: fleet.now(thief.group).quarantined_at is not None, what="the quarantine")
        until(lambda: memory_of(fleet.rt.queue.servers.main).share < 1, what="room")
    stranger.client.close()


def test_claims_are_remembered_in_one_entry_a_machine(fleet: Fleet) -> None:
    tenant = Tenant(fleet)
    client, keys = fleet.rt.queue.servers.main, GroupKeys(tenant.group.id)
    for _ in range(50):
        tenant.task()
        machine = tenant.honest()
        machine.claim()
        machine.close()
    assert client.hlen(keys.claims) == 1
    assert len(list(client.scan_iter(f"{keys.old_claim_prefix}*"))) == 1


def test_leftovers_of_an_ended_group_are_removed(fleet: Fleet) -> None:
    tenant = Tenant(fleet)
    stranger = tenant.stolen()
    fleet.set(tenant.group, status="terminated", terminated_at=time.time())
    sweep(fleet.rt, 0)
    assert not list(fleet.rt.queue.servers.main.scan_iter(stranger.keys.every))
    stranger.client.close()
