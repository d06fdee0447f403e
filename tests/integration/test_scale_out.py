"""Several Redis servers, several processes: groups are shared out, and nothing is done twice."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
from sqlalchemy import func, select

from executor.link.lease import Claimer, new_token
from scheduler.config import Settings
from scheduler.queue.group_queue import Arrival
from scheduler.queue.servers import UnknownServer
from scheduler.services.control import leadership, reconcile_queue
from scheduler.services.control.sweep import SWEEP, sweep, sweep_in_turn
from scheduler.services.groups.register import GroupRequest, register_group, unnamed_servers
from scheduler.services.tasks.enqueue import enqueue
from scheduler.store.models import Duty, StatusChange, Task
from simherd.contract import limits
from simherd.contract.lifecycle import Status
from simherd.contract.reports import Kind
from tests.support import servers
from tests.support.builders import make_group, make_task
from tests.support.parts import machine_of, make_parts, recording, report, waiting
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scheduler.store.engine import Store
    from scheduler.store.models import MachineGroup
    from scheduler.wiring import Parts


@pytest.fixture(scope="module")
def second() -> Iterator[str]:
    """Another Redis."""
    with servers.redis_server() as url:
        yield url


@pytest.fixture
def parts(database_url: str, store: Store, redis_url: str, second: str, tmp_path: Path) -> Parts:
    for url in (redis_url, second):
        redis.Redis.from_url(url).flushdb()
    return make_parts(database_url, redis_url, tmp_path, redis_servers={"b": {"url": second}})[0]


def _group(parts: Parts, server: str) -> MachineGroup:
    with parts.store.write() as session:
        return make_group(session, redis_server=server)


def _tasks(parts: Parts, group: MachineGroup, count: int = 1, **fields: Any) -> list[Task]:
    with parts.store.write() as session:
        return [make_task(session, group, **fields) for _ in range(count)]


def _keys(tasks: list[Task]) -> list[str]:
    return [f"{task.id}:{task.attempt}" for task in tasks]


def _started(parts: Parts, task: Task) -> int:
    """How often the task's history says that it was started."""
    with parts.store.read() as session:
        query = select(func.count()).where(
            StatusChange.task_id == task.id, StatusChange.status == Status.STARTED.value
        )
        return session.scalar(query) or 0


def test_new_groups_go_to_the_server_that_has_the_fewest(parts: Parts) -> None:
    owner = _group(parts, "b").user_id
    asked = [GroupRequest("local", "LOCAL", name=f"g{n}", spot=False) for n in range(8)]
    places = {g: register_group(parts, owner, one).redis_server for g, one in enumerate(asked)}
    assert set(places.values()) == {limits.MAIN_SERVER, "b"}


def test_a_closed_server_gets_no_new_groups(parts: Parts, second: str) -> None:
    owner = _group(parts, "b").user_id
    parts.settings.redis_servers["b"].closed = True
    made = [
        register_group(parts, owner, GroupRequest("local", "LOCAL", name=f"c{n}", spot=False))
        for n in range(3)
    ]
    assert {group.redis_server for group in made} == {limits.MAIN_SERVER}


def test_each_group_lives_on_its_own_server(parts: Parts, redis_url: str, second: str) -> None:
    here, there = _group(parts, limits.MAIN_SERVER), _group(parts, "b")
    urls = {here.id: redis_url, there.id: second}
    for group in (here, there):
        (task,) = _tasks(parts, group)
        enqueue(parts, task.id)
        claimer = Claimer(urls[group.id], group.id, machine_of(group.id))
        claimed = claimer.claim(new_token())
        claimer.close()
        assert claimed is not None
        assert claimed.attempt == f"{task.id}:1"
        with recording(parts):
            report(parts, group.id, task.id, 1, 1, Kind.STARTED, executer={})
            until(functools.partial(_started, parts, task), what="the report to be recorded")


def test_a_server_that_is_away_holds_up_its_own_groups_alone(
    database_url: str, store: Store, redis_url: str, tmp_path: Path
) -> None:
    # Nobody listens there.
    away = {"gone": {"url": "redis://127.0.0.1:9"}}
    parts, _ = make_parts(database_url, redis_url, tmp_path, redis_servers=away)
    here, there = _group(parts, limits.MAIN_SERVER), _group(parts, "gone")
    mine, lost = _tasks(parts, here), _tasks(parts, there)
    with pytest.raises(redis.ConnectionError):
        sweep(parts, time.time(), "gone")
    sweep(parts, time.time())
    assert waiting(parts, here.id) == _keys(mine)
    enqueue(parts, lost[0].id)  # is told to nobody: SQL knows
    with recording(parts):
        report(parts, here.id, mine[0].id, 1, 1, Kind.STARTED, executer={})
        until(lambda: _started(parts, mine[0]), what="the report to be recorded")


def test_a_server_that_is_not_named_any_more_is_told(
    database_url: str, store: Store, redis_url: str, tmp_path: Path
) -> None:
    parts, _ = make_parts(
        database_url, redis_url, tmp_path, redis_servers={"b": {"url": "redis://x"}}
    )
    group = _group(parts, "other")
    with pytest.raises(UnknownServer, match="'other' in SIMHERD_REDIS_SERVERS"):
        parts.queue.reader.queue_length(group.id)
    assert "other" in unnamed_servers(parts)


def test_a_server_cannot_be_called_main() -> None:
    with pytest.raises(ValueError, match="'main' cannot name a server"):
        Settings(
            database_url="sqlite://",
            redis_url="redis://x",
            broker_url="redis://x",
            signing_key="k",
            redis_servers={"main": {"url": "redis://y"}},
        )


def test_recorders_share_the_groups_and_take_over(parts: Parts) -> None:
    groups = [_group(parts, server) for server in (limits.MAIN_SERVER, "b") for _ in range(4)]
    tasks = [_tasks(parts, group)[0] for group in groups]
    with recording(parts):
        with recording(parts):
            for group, task in zip(groups, tasks, strict=True):
                report(parts, group.id, task.id, 1, 1, Kind.STARTED, executer={})
            until(lambda: all(_started(parts, t) for t in tasks), what="all to be recorded")
        # One has gone: what was its own is the other's.
        for group, task in zip(groups, tasks, strict=True):
            report(parts, group.id, task.id, 1, 2, Kind.COMPUTATION_STARTED)
        until(lambda: _all_compute(parts, tasks), what="the rest to be recorded")
    assert [_started(parts, task) for task in tasks] == [1] * len(tasks)


def _all_compute(parts: Parts, tasks: list[Task]) -> bool:
    with parts.store.read() as session:
        query = select(Task.status).where(Task.id.in_([t.id for t in tasks]))
        return set(session.scalars(query)) == {Status.COMPUTATION_STARTED.value}


def test_a_duty_is_one_holders_until_its_time_is_over(parts: Parts) -> None:
    store = parts.store
    assert leadership.take(store, "d", "a", now=100, seconds=10)
    assert not leadership.take(store, "d", "b", now=109, seconds=10)
    assert leadership.take(store, "d", "a", now=109, seconds=10)
    assert leadership.take(store, "d", "b", now=119, seconds=10)
    assert not leadership.take(store, "d", "a", now=120, seconds=10)
    leadership.keep_until(store, "d", "a", 0)  # it has it no more
    assert not leadership.take(store, "d", "a", now=121, seconds=10)


def test_who_sweeps_keeps_others_from_it_for_a_while(parts: Parts) -> None:
    group = _group(parts, "b")
    first, second = _tasks(parts, group), _tasks(parts, group)
    parts.settings.sweep_s = 1000
    with parts.store.write() as session:
        session.merge(Duty(name=f"{SWEEP}:b", holder="", until=0))
    sweep_in_turn(parts, "b", time.time())
    assert waiting(parts, group.id) == _keys(first + second)
    later = _tasks(parts, group)
    sweep_in_turn(parts, "b", time.time())
    assert waiting(parts, group.id) == _keys(first + second)
    with parts.store.write() as session:
        session.merge(Duty(name=f"{SWEEP}:b", holder="", until=0))
    sweep_in_turn(parts, "b", time.time())
    assert waiting(parts, group.id) == _keys(first + second + later)


def test_a_long_queue_is_compared_page_by_page(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile_queue, "PAGE", 3)
    group = _group(parts, "b")
    tasks = _tasks(parts, group, 10)
    client = parts.queue.servers.of(group.id)
    reconcile_queue.reconcile_queue(parts, group, filling_s=60)
    assert waiting(parts, group.id) == _keys(tasks)
    # Redis has lost everything, and with it how far the comparing was: all of it at once.
    client.flushdb()
    reconcile_queue.reconcile_queue(parts, group, filling_s=60)
    assert waiting(parts, group.id) == _keys(tasks)
    # It has lost some of it: found in a few turns.
    for task in (tasks[1], tasks[8]):
        parts.queue.withdraw(group.id, f"{task.id}:1")
    parts.queue.enqueue(group.id, [Arrival(f"stranger-{n}:1", n, "{}") for n in range(5)])
    for _ in range(8):
        reconcile_queue.reconcile_queue(parts, group)
    assert waiting(parts, group.id) == _keys(tasks)
