"""What an agent shows of itself, from small real parts."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from executor.containers.base import EngineUnavailable
from executor.observability import table
from executor.observability.collectors import read_agent
from executor.observability.exposition import ExecutorExposition
from executor.observability.health_pages import Health
from executor.observability.status import AgentStatus
from simherd.contract import limits
from simherd.runtime.metric_table import MetricKind


def attempt(*, computes: bool = True, limit: float | None = None) -> Any:
    return SimpleNamespace(
        slot=SimpleNamespace(held=computes), deadline=SimpleNamespace(wall_time=limit)
    )


def agent(*attempts: Any, **changes: Any) -> Any:
    parts: dict[str, Any] = {
        "backend": SimpleNamespace(check=lambda: None),
        "slots": SimpleNamespace(number=4),
        "reporter": SimpleNamespace(has_died=False, unrecorded=lambda: (2, 5)),
        "inbox": SimpleNamespace(has_died=False),
        "machine": SimpleNamespace(disk=lambda: (100, 10), lacks=None),
        "guard": SimpleNamespace(silent_s=1.5, remaining_s=300.0),
        "interruption": SimpleNamespace(reclaim_at=None, silent_s=None),
        "pulse": SimpleNamespace(trouble=lambda: None),
        "attempts": lambda: list(attempts),
        "is_draining": False,
        **changes,
    }
    return SimpleNamespace(**parts)


def status(*attempts: Any, **changes: Any) -> AgentStatus:
    return AgentStatus(agent(*attempts, **changes))


def test_a_quiet_agent_shows_what_it_has() -> None:
    shown = {row: value for row, value in read_agent(agent(attempt(), attempt(computes=False)))}
    assert shown == {
        table.SLOTS: 4,
        table.SLOTS_BUSY: 1,
        table.ATTEMPTS: 2,
        table.DRAINING: False,
        table.DISK_FREE: 100,
        table.DISK_RESERVE: 10,
        table.SILENT: 1.5,
        table.GIVES_UP: 300.0,
        table.JOURNALS: 2,
        table.JOURNAL_REPORTS: 5,
    }


def test_causes_that_may_end_attempts_are_shown_while_they_apply() -> None:
    now = time.time()
    interruption = SimpleNamespace(reclaim_at=now + 100, silent_s=7.0)
    attempts = attempt(limit=now + 60), attempt(limit=now + 30), attempt()
    shown = dict(read_agent(agent(*attempts, interruption=interruption)))
    assert shown[table.NOTICES_SILENT] == 7
    assert shown[table.RECLAIM] == pytest.approx(100, abs=30)
    assert shown[table.DEADLINE_LEFT] == pytest.approx(30, abs=30)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("pulse", "The heart stands still."),
        ("reporter", "The thread that reports has died."),
        ("inbox", "The thread that reads its inbox has died."),
    ],
)
def test_an_agent_whose_thread_has_died_is_not_live(part: str, said: str) -> None:
    assert status().trouble() is None
    broken = SimpleNamespace(has_died=True, trouble=lambda: said)
    assert status(**{part: broken}).trouble() == said


@pytest.mark.parametrize(
    ("silent_s", "is_reached"), [(0, True), (limits.LEASE_S - 1, True), (limits.LEASE_S, False)]
)
def test_redis_is_out_of_reach_after_a_leases_time(silent_s: float, is_reached: bool) -> None:
    trouble = status(guard=SimpleNamespace(silent_s=silent_s)).redis()
    assert (trouble is None) is is_reached


@pytest.mark.parametrize("lacking", [None, "/work has 1 GiB free"])
def test_a_machine_without_room_says_so(lacking: str | None) -> None:
    trouble = status(machine=SimpleNamespace(lacks=lacking)).disk()
    assert trouble == (
        None if lacking is None else f"There is no room for another task: {lacking}."
    )


def test_an_engine_that_does_not_answer_is_an_error() -> None:
    def check() -> None:
        raise EngineUnavailable("no answer")

    assert status().engine() is None
    with pytest.raises(EngineUnavailable):
        status(backend=SimpleNamespace(check=check)).engine()


def test_every_row_is_counted_or_read_and_in_one_place() -> None:
    names = [row.name for row in (*table.COUNTED, *table.STATE)]
    assert len(set(names)) == len(names)
    assert all(name.startswith("simherd_executor_") for name in names)
    assert {row.kind for row in table.STATE} == {MetricKind.GAUGE}


def test_a_machine_that_joins_is_live_and_reaches_nothing_yet() -> None:
    health = Health()
    assert health.trouble() is None
    assert set(health.dependencies.ask()) == {"redis", "engine", "disk"}
    assert all(health.dependencies.ask().values())
    health.close()


def test_prometheus_reads_the_agent_once_there_is_one() -> None:
    health = Health()
    exposition = ExecutorExposition(health.dependencies, health.agent)
    before = exposition.text().decode()
    assert 'simherd_executor_dependency_up{dependency="redis"} 0.0' in before
    assert "simherd_executor_slots 4.0" not in before
    health.insight = status()
    assert "simherd_executor_slots 4.0" in exposition.text().decode()
