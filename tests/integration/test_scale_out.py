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
from scheduler.domain.limits import MAIN_SERVER
from scheduler.queue.group_queue import Arrival
from scheduler.queue.servers import UnknownServer
from scheduler.services.control import leadership, reconcile_queue
from scheduler.services.control.sweep import SWEEP, sweep, sweep_in_turn
from scheduler.services.groups.register import GroupRequest, register_group, unnamed_servers
from scheduler.services.tasks.enqueue import enqueue_task
from scheduler.store.models import LeadershipRow, StatusChange, TaskRow
from simherd.contract.lifecycle import Status
from simherd.contract.reports import ReportKind
from tests.support import servers
from tests.support.builders import make_group, make_task
from tests.support.runtime import machine_of, make_runtime, recording, report, waiting
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scheduler.store.engine import Store
    from scheduler.store.models import GroupRow
    from scheduler.wiring import Runtime


@pytest.fixture(scope="module")
def second() -> Iterator[str]:
    """Another Redis."""
    with servers.redis_server() as url:
        yield url


@pytest.fixture
def rt(database_url: str, store: Store, redis_url: str, second: str, tmp_path: Path) -> Runtime:
    for url in (redis_url, second):
        redis.Redis.from_url(url).flushdb()
    return make_runtime(database_url, redis_url, tmp_path, redis_servers={"b": {"url": second}})[0]


def _group(rt: Runtime, server: str) -> GroupRow:
    with rt.store.write() as session:
        return make_group(session, redis_server=server)


def _tasks(rt: Runtime, group: GroupRow, count: int = 1, **fields: Any) -> list[TaskRow]:
    with rt.store.write() as session:
        return [make_task(session, group, **fields) for _ in range(count)]


def _keys(tasks: list[TaskRow]) -> list[str]:
    return [f"{task.id}:{task.attempt}" for task in tasks]


def _started(rt: Runtime, task: TaskRow) -> int:
    """How often the task's history says that it was started."""
    with rt.store.read() as session:
        query = select(func.count()).where(
            StatusChange.task_id == task.id, StatusChange.status == Status.STARTED.value
        )
        return session.scalar(query) or 0


def test_new_groups_go_to_the_server_that_has_the_fewest(rt: Runtime) -> None:
    owner = _group(rt, "b").user_id
    asked = [GroupRequest("local", "LOCAL", name=f"g{n}", spot=False) for n in range(8)]
    places = {g: register_group(rt, owner, one).redis_server for g, one in enumerate(asked)}
    assert set(places.values()) == {MAIN_SERVER, "b"}


def test_a_closed_server_gets_no_new_groups(rt: Runtime, second: str) -> None:
    owner = _group(rt, "b").user_id
    rt.settings.redis_servers["b"].closed = True
    made = [
        register_group(rt, owner, GroupRequest("local", "LOCAL", name=f"c{n}", spot=False))
        for n in range(3)
    ]
    assert {group.redis_server for group in made} == {MAIN_SERVER}


def test_each_group_is_on_one_server(rt: Runtime, redis_url: str, second: str) -> None:
    here, there = _group(rt, MAIN_SERVER), _group(rt, "b")
    urls = {here.id: redis_url, there.id: second}
    for group in (here, there):
        (task,) = _tasks(rt, group)
        enqueue_task(rt, task.id)
        claimer = Claimer(urls[group.id], group.id, machine_of(group.id))
        claimed = claimer.claim(new_token())
        claimer.close()
        assert claimed is not None
        assert claimed.attempt == f"{task.id}:1"
        with recording(rt):
            report(rt, group.id, task.id, 1, 1, ReportKind.STARTED, executer={})
            until(functools.partial(_started, rt, task), what="the report to be recorded")


def test_an_unavailable_server_delays_only_its_groups(
    database_url: str, store: Store, redis_url: str, tmp_path: Path
) -> None:
    # Nobody listens there.
    away = {"gone": {"url": "redis://127.0.0.1:9"}}
    rt, _ = make_runtime(database_url, redis_url, tmp_path, redis_servers=away)
    here, there = _group(rt, MAIN_SERVER), _group(rt, "gone")
    mine, lost = _tasks(rt, here), _tasks(rt, there)
    with pytest.raises(redis.ConnectionError):
        sweep(rt, time.time(), "gone")
    sweep(rt, time.time())
    assert waiting(rt, here.id) == _keys(mine)
    enqueue_task(rt, lost[0].id)  # reaches no Redis: SQL has it
    with recording(rt):
        report(rt, here.id, mine[0].id, 1, 1, ReportKind.STARTED, executer={})
        until(lambda: _started(rt, mine[0]), what="the report to be recorded")


def test_a_server_that_the_settings_no_longer_name_is_reported(
    database_url: str, store: Store, redis_url: str, tmp_path: Path
) -> None:
    rt, _ = make_runtime(
        database_url, redis_url, tmp_path, redis_servers={"b": {"url": "redis://x"}}
    )
    group = _group(rt, "other")
    with pytest.raises(UnknownServer, match="'other' in SIMHERD_REDIS_SERVERS"):
        rt.queue.reader.queue_length(group.id)
    assert "other" in unnamed_servers(rt)


def test_a_server_cannot_be_called_main() -> None:
    with pytest.raises(ValueError, match="'main' cannot name a server"):
        Settings(
            database_url="sqlite://",
            redis_url="redis://x",
            broker_url="redis://x",
            signing_key="k",
            redis_servers={"main": {"url": "redis://y"}},
        )


def test_recorders_share_the_groups_and_take_over(rt: Runtime) -> None:
    groups = [_group(rt, server) for server in (MAIN_SERVER, "b") for _ in range(4)]
    tasks = [_tasks(rt, group)[0] for group in groups]
    with recording(rt):
        with recording(rt):
            for group, task in zip(groups, tasks, strict=True):
                report(rt, group.id, task.id, 1, 1, ReportKind.STARTED, executer={})
            until(lambda: all(_started(rt, t) for t in tasks), what="all to be recorded")
        # One has gone: what was its own is the other's.
        for group, task in zip(groups, tasks, strict=True):
            report(rt, group.id, task.id, 1, 2, ReportKind.COMPUTATION_STARTED)
        until(lambda: _all_compute(rt, tasks), what="the rest to be recorded")
    assert [_started(rt, task) for task in tasks] == [1] * len(tasks)


def _all_compute(rt: Runtime, tasks: list[TaskRow]) -> bool:
    with rt.store.read() as session:
        query = select(TaskRow.status).where(TaskRow.id.in_([t.id for t in tasks]))
        return set(session.scalars(query)) == {Status.COMPUTATION_STARTED.value}


def test_a_duty_is_one_holders_until_its_time_is_over(rt: Runtime) -> None:
    store = rt.store
    assert leadership.acquire(store, "d", "a", now=100, seconds=10)
    assert not leadership.acquire(store, "d", "b", now=109, seconds=10)
    assert leadership.acquire(store, "d", "a", now=109, seconds=10)
    assert leadership.acquire(store, "d", "b", now=119, seconds=10)
    assert not leadership.acquire(store, "d", "a", now=120, seconds=10)
    leadership.extend_until(store, "d", "a", 0)  # it has it no more
    assert not leadership.acquire(store, "d", "a", now=121, seconds=10)


def test_a_worker_that_sweeps_keeps_others_from_it_for_a_while(rt: Runtime) -> None:
    group = _group(rt, "b")
    first, second = _tasks(rt, group), _tasks(rt, group)
    rt.settings.sweep_s = 1000
    with rt.store.write() as session:
        session.merge(LeadershipRow(name=f"{SWEEP}:b", holder="", until=0))
    sweep_in_turn(rt, "b", time.time())
    assert waiting(rt, group.id) == _keys(first + second)
    later = _tasks(rt, group)
    sweep_in_turn(rt, "b", time.time())
    assert waiting(rt, group.id) == _keys(first + second)
    with rt.store.write() as session:
        session.merge(LeadershipRow(name=f"{SWEEP}:b", holder="", until=0))
    sweep_in_turn(rt, "b", time.time())
    assert waiting(rt, group.id) == _keys(first + second + later)


def test_a_long_queue_is_compared_page_by_page(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile_queue, "PAGE", 3)
    group = _group(rt, "b")
    tasks = _tasks(rt, group, 10)
    client = rt.queue.servers.of(group.id)
    reconcile_queue.reconcile_queue(rt, group, filling_s=60)
    assert waiting(rt, group.id) == _keys(tasks)
    # Redis has lost everything, and with it how far the comparing was: all of it at once.
    client.flushdb()
    reconcile_queue.reconcile_queue(rt, group, filling_s=60)
    assert waiting(rt, group.id) == _keys(tasks)
    # It has lost some of it: found in a few turns.
    for task in (tasks[1], tasks[8]):
        rt.queue.withdraw(group.id, f"{task.id}:1")
    rt.queue.enqueue(group.id, [Arrival(f"stranger-{n}:1", n, "{}") for n in range(5)])
    for _ in range(8):
        reconcile_queue.reconcile_queue(rt, group)
    assert waiting(rt, group.id) == _keys(tasks)
