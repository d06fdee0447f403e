"""Which tasks a list has, on which page, and who may see one. On SQLite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from scheduler.services.errors import ResourceNotFound
from scheduler.services.projects.projects import ensure_project
from scheduler.services.tasks.listing import (
    attempts_of,
    list_tasks,
    set_task_metadata,
    usage_samples,
)
from scheduler.store.models import AttemptRow, UsageSample
from simherd.contract.lifecycle import Status
from tests.support.builders import make_group, make_task
from tests.support.memory import memory_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from scheduler.store.models import GroupRow


@pytest.fixture
def session() -> Iterator[Session]:
    with memory_session() as session:
        yield session


@pytest.fixture
def group(session: Session) -> GroupRow:
    """A group whose user has four tasks, one of them in another project."""
    made = make_group(session)
    other = ensure_project(session, made.user_id, "other")
    for n, status in enumerate((Status.SUBMITTED, Status.SUCCESS, Status.SUCCESS)):
        make_task(session, made, id=f"t{n}", seq=n + 1, status=status.value)
    make_task(session, made, id="t3", seq=4, project_id=other.id)
    make_task(session, make_group(session), id="foreign", seq=5)
    return made


@pytest.mark.parametrize(
    ("page", "per_page", "filters", "total", "ids"),
    [
        (1, 10, {}, 4, ["t3", "t2", "t1", "t0"]),
        (1, 2, {}, 4, ["t3", "t2"]),
        (2, 2, {}, 4, ["t1", "t0"]),
        (2, 3, {}, 4, ["t0"]),
        (3, 2, {}, 4, []),
        (1, 10, {"status": Status.SUCCESS}, 2, ["t2", "t1"]),
        (1, 1, {"status": Status.SUCCESS}, 2, ["t2"]),
        (1, 10, {"status": Status.FAILED}, 0, []),
        (1, 10, {"project": "other"}, 1, ["t3"]),
        (1, 10, {"project": "default"}, 3, ["t2", "t1", "t0"]),
        (1, 10, {"project": "none"}, 0, []),
        (1, 10, {"project": "default", "status": Status.SUBMITTED}, 1, ["t0"]),
    ],
)
def test_a_page_of_the_users_tasks_newest_first(
    session: Session,
    group: GroupRow,
    page: int,
    per_page: int,
    filters: dict[str, Any],
    total: int,
    ids: list[str],
) -> None:
    found, tasks = list_tasks(session, group.user_id, page, per_page, **filters)
    assert found == total
    assert [t.task.id for t in tasks] == ids
    assert all(t.group == group.name for t in tasks)


def test_a_task_in_a_list_has_its_attempts_cost(session: Session, group: GroupRow) -> None:
    session.add(
        AttemptRow(
            task_id="t1", attempt=1, started_at=0.0, ended_at=3600.0, price_hour=0.5, saved={}
        )
    )
    _, tasks = list_tasks(session, group.user_id, 1, 10)
    assert {t.task.id: t.cost for t in tasks} == {"t0": 0, "t1": 0.5, "t2": 0, "t3": 0}


def test_metadata_is_replaced(session: Session, group: GroupRow) -> None:
    for texts in ({"a": "b"}, {"c": "d"}):
        set_task_metadata(session, group.user_id, "t0", texts)
    _, tasks = list_tasks(session, group.user_id, 1, 10)
    assert tasks[-1].task.task_metadata == {"c": "d"}


def test_attempts_come_in_order_without_a_machine_that_is_gone(
    session: Session, group: GroupRow
) -> None:
    for attempt in (2, 1):
        session.add(
            AttemptRow(task_id="t0", attempt=attempt, started_at=0.0, price_hour=1.0, saved={})
        )
    found = attempts_of(session, group.user_id, "t0", 7200.0)
    assert [(row.attempt, machine, cost) for row, machine, cost in found] == [
        (1, None, 2.0),
        (2, None, 2.0),
    ]


def test_another_users_task_is_not_found(session: Session, group: GroupRow) -> None:
    with pytest.raises(ResourceNotFound, match="'foreign'"):
        set_task_metadata(session, group.user_id, "foreign", {})
    with pytest.raises(ResourceNotFound):
        usage_samples(session, group.user_id, "foreign")
    with pytest.raises(ResourceNotFound):
        attempts_of(session, group.user_id, "foreign", 0.0)


def test_samples_come_in_the_order_of_time(session: Session, group: GroupRow) -> None:
    columns = UsageSample.__table__.columns
    numbers = {c.name: 0 for c in columns if c.name not in ("id", "task_id", "at")}
    session.add_all(UsageSample(task_id="t0", at=at, **numbers) for at in (2.0, 1.0))
    assert [row.at for row in usage_samples(session, group.user_id, "t0")] == [1.0, 2.0]
