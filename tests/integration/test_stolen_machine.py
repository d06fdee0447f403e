"""A machine's credentials in a stranger's hands: other tenants notice nothing."""

from __future__ import annotations

import contextlib
import hashlib
import time
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
import redis
from sqlalchemy import select

from scheduler.metrics.collectors import read_state
from scheduler.services.control.orphans import examine
from scheduler.services.control.sweep import sweep
from scheduler.services.tasks.enqueue import enqueue_task
from scheduler.store.models import MachineRow
from simherd.contract.lifecycle import Status
from simherd.contract.queue import scripts
from simherd.contract.queue.keys import ACCESS, CHANGES, EPOCH, GROUPS_CHANGED, GroupKeys
from tests.conftest import REPOSITORY
from tests.support.builders import make_task
from tests.support.cloud import Fleet, open_fleet, raw
from tests.support.hostile import RUN, HonestMachine, Stranger, Victim, client_of
from tests.support.runtime import recording
from tests.support.tenants import Tenant, ended
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scheduler.store.engine import Store


@pytest.fixture
def fleet(store: Store, database_url: str, redis_url: str, tmp_path: Path) -> Fleet:
    redis.Redis.from_url(redis_url).flushdb()
    return open_fleet(database_url, redis_url, tmp_path)


def _state(client: redis.Redis) -> dict[Any, Any]:
    """Every key of Redis with what is in it."""
    binary = redis.Redis(connection_pool=redis.ConnectionPool.from_url(_url(client)))
    try:
        return {key: binary.dump(key) for key in binary.scan_iter()}
    finally:
        binary.close()


def _url(client: redis.Redis) -> str:
    found = client.get_connection_kwargs()
    return f"redis://{found['host']}:{found['port']}/{found['db']}"


def _every_command(client: redis.Redis, key: str) -> Iterator[list[str]]:
    """Each command that Redis has, with `key` where it takes keys."""
    described: Any = client.command()
    for name, row in described.items():
        words = [str(name), *["1"] * max(abs(row["arity"]) - 1, 2)]
        first, last = row["first_key_pos"], row["last_key_pos"]
        if first > 0:
            last = last if last > 0 else len(words) + last
            for place in range(first, min(last, len(words) - 1) + 1, max(row["step_count"], 1)):
                words[place] = key
        yield words


#: What a connection may always do: it says who it is, and ends.
_HARMLESS = {"auth", "hello", "quit", "reset", "command", "ping", "time"}


def test_no_command_reaches_what_is_not_the_groups(fleet: Fleet) -> None:
    thief, other = Tenant(fleet), Tenant(fleet)
    machine = other.honest()
    other.task()
    machine.claim()
    admin = fleet.rt.queue.servers.main
    me = client_of(fleet.redis_url, thief.machine, thief.secret)
    foreign = GroupKeys(other.group.id)
    keys = [
        *(key for key, _ in foreign.fixed().values()),
        *(foreign.lease(machine.attempt), foreign.inbox(other.machine.id), foreign.live("0" * 32)),
        *(GroupKeys(thief.group.id).inbox(other.machine.id), GroupKeys(thief.group.id).place),
        *(EPOCH, ACCESS, GROUPS_CHANGED, CHANGES, "cel:1", "anything"),
    ]
    before, allowed, refused = _state(admin), [], 0
    for key in keys:
        for words in _every_command(admin, key):
            if words[0] in _HARMLESS:
                continue
            try:
                raw(me, *words)
            except redis.exceptions.NoPermissionError:
                refused += 1
                continue
            except redis.ResponseError as error:
                # What it may not do is refused before the key is looked at.
                if "WRONGTYPE" not in str(error):
                    continue
            allowed.append(words)
    assert allowed == []
    # So many commands at least have been looked at: Redis 6.2 has 220.
    assert refused > 150 * len(keys)
    for script in scripts.Name.__args__:  # type: ignore[attr-defined]
        sha = admin.script_load(scripts.source(script))
        places = [key for key, _ in foreign.fixed().values()][:11]
        with pytest.raises(
            redis.ResponseError, match=r"(?i)permission|can't access|NOPERM|attempt"
        ):
            raw(me, "EVALSHA", sha, len(places), *places, *["1"] * 9)
        # And where the keys are one's own, and what is named by an argument is not.
        own = [key for key, _ in GroupKeys(thief.group.id).fixed().values()][:11]
        with contextlib.suppress(redis.ResponseError):
            raw(me, "EVALSHA", sha, len(own), *own, foreign.lease_prefix, machine.attempt, *"999")
    after = _state(admin)
    theirs = f"{{{thief.group.id}}}".encode()
    assert {k: v for k, v in after.items() if theirs not in k} == {
        k: v for k, v in before.items() if theirs not in k
    }
    me.close()
    machine.close()


def test_lies_harm_nobody_else(fleet: Fleet) -> None:
    thief, others = Tenant(fleet), [Tenant(fleet), Tenant(fleet)]
    stranger, rt = thief.stolen(), fleet.rt
    with recording(rt):
        for name, act in stranger.lies(Victim("", "", "", "")):
            _try_lie(fleet, stranger, others, name)
            assert callable(act)
    stranger.client.close()


def _try_lie(fleet: Fleet, stranger: Stranger, others: list[Tenant], name: str) -> None:
    """Two tenants' tasks run from beginning to end, while the lie is told at each step."""
    machines = [tenant.honest() for tenant in others]
    tasks = [tenant.task() for tenant in others]
    for machine in machines:
        machine.claim()
    victims = [tenant.as_victim(m) for tenant, m in zip(others, machines, strict=True)]
    acts = [dict(stranger.lies(victim))[name] for victim in victims]
    for _ in RUN:
        for act in acts:
            act()
        for machine in machines:
            machine.report()
            assert machine.beat() in {"held", "recorded"}, name
        sweep(fleet.rt, 0)
    for task in tasks:
        over = until(lambda t=task: ended(fleet, t.id), what=f"{name}: the task to end")  # type: ignore[misc]
        assert over.status == Status.SUCCESS, (name, over.status, over.error_detail)
        assert over.losses == []
    with fleet.rt.store.read() as session:
        rows = session.scalars(
            select(MachineRow).where(MachineRow.id.in_([v.machine for v in victims]))
        )
        assert {(row.status, row.failures) for row in rows} == {("started", "")}, name
    for machine in machines:
        until(lambda m=machine: m.beat() == "recorded", what="the last report")  # type: ignore[misc]
        machine.close()
    # Everybody's lists, the metrics and the doctor can still be looked at.
    read_state(fleet.rt)
    examine(fleet.rt, fix=False)


def test_scripts_of_the_release_before_are_there_for_its_agents(fleet: Fleet) -> None:
    tenant = Tenant(fleet)
    client = client_of(fleet.redis_url, tenant.machine, tenant.secret)
    fleet.rt.queue.servers.main.script_flush()
    fleet.rt.queue.servers.main.flushdb()
    sweep(fleet.rt, 0)
    # As the wheel in tests/releases has it: claim.lua after left.lua and take.lua.
    with zipfile.ZipFile(next((REPOSITORY / "tests/releases").glob("*.whl"))) as wheel:
        names = [f"simherd/contract/queue/{name}.lua" for name in ("left", "take", "claim")]
        text = "".join(wheel.read(name).decode() for name in names)
    keys = GroupKeys(tenant.group.id)
    places = [*keys.of_claim()[:-1]]
    words = [keys.lease_prefix, keys.old_claim_prefix, tenant.machine.id, "t", 20_000, 120]
    task = tenant.task()
    digest = hashlib.sha1(text.encode()).hexdigest()
    reply = raw(client, "EVALSHA", digest, len(places), *places, *words, 2**40, "", 4)
    assert reply[:2] == ["claimed", f"{task.id}:1"]
    client.close()


def test_a_machine_that_reports_for_its_neighbour_changes_nothing(fleet: Fleet) -> None:
    """Within a group as well, only who holds an attempt reports about it."""
    group = fleet.group(num_machines=2, status="started")
    mine, neighbour = fleet.scale(group)
    secrets = {m.id: fleet.join(m) for m in (mine, neighbour)}
    with fleet.rt.store.write() as session:
        task = make_task(session, group)
    enqueue_task(fleet.rt, task.id)
    honest = HonestMachine(fleet.redis_url, mine, secrets[mine.id])
    honest.claim()
    client = client_of(fleet.redis_url, neighbour, secrets[neighbour.id])
    liar = Stranger(client, group.id, neighbour.id, task.id, lambda: task.id)
    with recording(fleet.rt):
        for number, (kind, body) in enumerate(RUN, 1):
            liar.forge(kind, task.id, number, body={**body, "exit_code": 1})
            honest.report()
            assert honest.beat() in {"held", "recorded"}
        over = until(lambda: ended(fleet, task.id), what="the task to end")
    assert (over.status, over.machine_id, over.exit_code) == (Status.SUCCESS, mine.id, 0)
    client.close()
    honest.close()


def test_dropped_input_is_counted_and_logged_once(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    thief = Tenant(fleet)
    stranger = thief.stolen()
    with recording(fleet.rt):
        for _ in range(20):
            stranger.forge(RUN[0][0], "no-such-task", at=time.time())
        until(lambda: "foreign_report" in caplog.text, what="the log line")
        stranger.forge(RUN[0][0], "no-such-task")
    assert caplog.text.count("kind=foreign_report") == 1
    stranger.client.close()
