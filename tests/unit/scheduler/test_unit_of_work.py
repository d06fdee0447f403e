"""What a unit of work collects takes effect after its commit, and only then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from scheduler.config import Settings
from scheduler.metrics import table
from scheduler.metrics.instruments import REGISTRY, flush
from scheduler.store.engine import Store, open_engine
from scheduler.store.unit_of_work import StatusOutcome, UnitOfWork
from scheduler.wiring import Runtime
from simherd.contract.lifecycle import Status

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def committed() -> list[UnitOfWork]:
    return []


@pytest.fixture
def store(tmp_path: Path, committed: list[UnitOfWork]) -> Store:
    return Store(open_engine(f"sqlite:///{tmp_path / 'simherd.db'}"), committed.append)


def counter(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"{metric}_total", labels) or 0.0


def test_a_new_one_has_collected_nothing(store: Store) -> None:
    with store.write() as unit:
        assert (unit.changes, unit.jobs, unit.counted) == ([], set(), [])


def test_it_is_handed_on_after_its_commit(store: Store, committed: list[UnitOfWork]) -> None:
    with store.write() as unit:
        unit.jobs.add("deliver")
        assert committed == []
    assert committed == [unit]


def test_one_that_is_rolled_back_is_not(store: Store, committed: list[UnitOfWork]) -> None:
    with pytest.raises(ZeroDivisionError), store.write() as unit:
        unit.jobs.add(str(1 / 0))
    assert committed == []


def test_a_reader_collects_nothing(store: Store, committed: list[UnitOfWork]) -> None:
    with store.read() as session:
        assert not isinstance(session, UnitOfWork)
    assert committed == []


def test_units_of_one_store_share_nothing(store: Store) -> None:
    with store.write() as first:
        first.inc_on_commit(table.JOBS, "sweep", "done")
    with store.write() as second:
        assert second.counted == []


def test_a_counter_is_added_to() -> None:
    unit = UnitOfWork()
    unit.inc_on_commit(table.JOBS, "unit-test", "done")
    unit.inc_on_commit(table.JOBS, "unit-test", "done", by=2)
    labels = {"name": "unit-test", "outcome": "done"}
    before = counter(table.JOBS.name.removesuffix("_total"), **labels)
    flush(unit.counted)
    assert counter(table.JOBS.name.removesuffix("_total"), **labels) == before + 3


@pytest.mark.parametrize("value", [-1, "many", None])
def test_a_value_that_cannot_be_counted_is_left_out(value: Any) -> None:
    flush([(table.JOBS, ("unit-test", "bad"), value)])


class Announcer:
    def __init__(self) -> None:
        self.published: list[dict[str, Status]] = []

    def publish(self, changed: dict[str, Status]) -> None:
        self.published.append(dict(changed))


class Traces:
    def __init__(self) -> None:
        self.tasks: list[str] = []

    def ended(self, tasks: list[str]) -> None:
        self.tasks += tasks


@pytest.fixture
def jobs() -> list[str]:
    return []


@pytest.fixture
def rt(tmp_path: Path, jobs: list[str]) -> Runtime:
    settings = Settings.model_construct(database_url=SecretStr("sqlite://"))
    made = Runtime(settings, jobs.append)
    made.__dict__.update(store=None, _announcer=Announcer(), traces=Traces(), tmp_path=tmp_path)
    return made


def outcome(task: str, status: Status, *, is_refused: bool = False) -> StatusOutcome:
    return StatusOutcome(task, status, "completed", is_refused)


def test_changes_are_announced_with_the_last_status(rt: Runtime) -> None:
    unit = UnitOfWork()
    unit.changes += [outcome("a", Status.STARTED), outcome("b", Status.STARTED)]
    unit.changes += [outcome("a", Status.SUCCESS)]
    rt._committed(unit)
    announcer: Any = rt._announcer
    assert announcer.published == [{"a": Status.SUCCESS, "b": Status.STARTED}]
    traces: Any = rt.traces
    assert traces.tasks == ["a"]


def test_without_a_change_nothing_is_announced(rt: Runtime) -> None:
    rt._committed(UnitOfWork())
    announcer: Any = rt._announcer
    assert announcer.published == []


def test_a_refused_change_is_counted_and_not_announced(rt: Runtime) -> None:
    name = table.REFUSED_CHANGES.name.removesuffix("_total")
    before = counter(name, status=Status.KILLED.value)
    unit = UnitOfWork()
    unit.changes.append(outcome("a", Status.KILLED, is_refused=True))
    rt._committed(unit)
    announcer: Any = rt._announcer
    assert announcer.published == []
    assert counter(name, status=Status.KILLED.value) == before + 1


@pytest.mark.parametrize("status", [Status.SUCCESS, Status.FAILED, Status.KILLED])
def test_an_ended_task_is_counted_by_its_status(rt: Runtime, status: Status) -> None:
    name = table.TASKS_ENDED.name.removesuffix("_total")
    labels = {"status": status.value, "cause": "completed"}
    before = counter(name, **labels)
    unit = UnitOfWork()
    unit.changes.append(outcome("a", status))
    rt._committed(unit)
    assert counter(name, **labels) == before + 1


@pytest.mark.parametrize("status", [Status.SUBMITTED, Status.STARTED])
def test_a_task_that_continues_is_not_counted_as_ended(rt: Runtime, status: Status) -> None:
    unit = UnitOfWork()
    unit.changes.append(outcome("a", status))
    rt._committed(unit)
    traces: Any = rt.traces
    assert traces.tasks == []


def test_jobs_are_sent_once(rt: Runtime, jobs: list[str]) -> None:
    unit = UnitOfWork()
    unit.jobs.add("deliver")
    unit.jobs.add("deliver")
    rt._committed(unit)
    assert jobs == ["deliver"]


def test_a_runtime_without_a_sender_leaves_jobs_to_the_sweep() -> None:
    rt = Runtime(Settings.model_construct())
    rt.send_job("deliver", "an argument")


def test_an_effect_that_fails_does_not_lose_the_others(rt: Runtime) -> None:
    sent: list[str] = []

    def send(name: str) -> None:
        if name == "bad":
            raise OSError("no broker")
        sent.append(name)

    unit = UnitOfWork()
    unit.jobs |= {"bad", "deliver", "scale"}
    unit.changes.append(outcome("a", Status.STARTED))
    runtime = Runtime(rt.settings, send)
    runtime.__dict__.update(rt.__dict__, send_job=send)
    runtime._committed(unit)
    announcer: Any = rt._announcer
    assert (set(sent), announcer.published) == ({"deliver", "scale"}, [{"a": Status.STARTED}])
