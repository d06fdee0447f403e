"""What tasks and machines have cost, and when a task has cost what it may; on SQLite in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from scheduler.catalogue.tables import Catalogue, MachineType
from scheduler.services.billing.costs import (
    cost_of_machines,
    cost_of_seconds,
    costs_of_projects,
    costs_of_tasks,
    hours_of_machines,
    is_over_max_cost,
    limit_sentence,
    machine_cost,
    max_cost_reached_at,
    seconds_affordable,
    seconds_until_max_cost,
    spent,
)
from scheduler.services.billing.prices import (
    price_states,
    priced_machine_types,
    set_price,
    unset_price,
)
from scheduler.services.billing.user_costs import (
    FIRST_YEAR,
    LAST_YEAR,
    Month,
    costs_by_group,
    costs_by_month,
    costs_by_project,
    months_between,
)
from scheduler.services.errors import Invalid, ResourceNotFound
from scheduler.store.models import AttemptRow, GroupRow, MachineRow, TaskRow
from tests.support.builders import make_group, make_task
from tests.support.memory import memory_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

HOUR = 3600.0
C5 = MachineType("c5", 4, 8, on_demand=1.0, spot=0.25, zone="z", region="r")
CATALOGUE = Catalogue({"c5": C5}, {}, {}, {}, ())


@pytest.fixture
def session() -> Iterator[Session]:
    with memory_session() as session:
        yield session


def attempts(session: Session, task: TaskRow, *rows: tuple[float, float | None, float]) -> None:
    """Attempts 1, 2, …: from when, until when, US$ per hour."""
    for number, (started, ended, price) in enumerate(rows, 1):
        session.add(
            AttemptRow(
                task_id=task.id,
                attempt=number,
                started_at=started,
                ended_at=ended,
                price_hour=price,
            )
        )
    session.flush()


@pytest.fixture
def task(session: Session) -> TaskRow:
    """Has cost 2 US$ in its first hour, and costs 1 US$ an hour since the second began."""
    made = make_task(session, make_group(session, price_hour=4.0), attempt=2, max_cost=3.0)
    attempts(session, made, (0.0, HOUR, 2.0), (HOUR, None, 1.0))
    return made


@pytest.mark.parametrize(
    ("seconds", "price", "cost"),
    [(0, 1, 0), (HOUR, 1, 1), (HOUR / 2, 3, 1.5), (-HOUR, 3, 0), (HOUR, 0, 0)],
)
def test_the_cost_of_seconds(seconds: float, price: float, cost: float) -> None:
    assert cost_of_seconds(seconds, price) == cost


@pytest.mark.parametrize(
    ("money", "price", "seconds"),
    [(1, 1, HOUR), (0, 1, 0), (-1, 1, 0), (1, 4, HOUR / 4), (1, 0, None), (0, 0, None)],
)
def test_the_seconds_that_money_lasts(money: float, price: float, seconds: float | None) -> None:
    assert seconds_affordable(money, price) == seconds


@pytest.mark.parametrize(("now", "cost"), [(HOUR, 2.0), (2 * HOUR, 3.0), (3.5 * HOUR, 4.5)])
def test_a_task_costs_what_its_attempts_cost(
    session: Session, task: TaskRow, now: float, cost: float
) -> None:
    assert spent(session, task.id, now) == pytest.approx(cost)
    assert costs_of_tasks(session, [task.id, "another"], now) == {task.id: pytest.approx(cost)}


def test_an_attempt_can_be_left_out(session: Session, task: TaskRow) -> None:
    assert spent(session, task.id, 3 * HOUR, but=1) == pytest.approx(2.0)
    assert spent(session, task.id, 3 * HOUR, but=2) == pytest.approx(2.0)
    assert spent(session, "another", 3 * HOUR) == 0.0


@pytest.mark.parametrize(
    ("max_cost", "at"),
    [(3.0, 2 * HOUR), (2.5, 1.5 * HOUR), (2.0, HOUR), (1.0, HOUR), (12.0, 11 * HOUR)],
)
def test_when_a_task_will_have_cost_what_it_may(
    session: Session, task: TaskRow, max_cost: float, at: float
) -> None:
    assert max_cost_reached_at(session, task.id, 2, max_cost) == pytest.approx(at)


def test_a_free_attempt_and_one_that_was_not_taken_up_never_reach_it(session: Session) -> None:
    task = make_task(session, make_group(session))
    attempts(session, task, (0.0, None, 0.0))
    assert max_cost_reached_at(session, task.id, 1, 1.0) is None
    assert max_cost_reached_at(session, task.id, 2, 1.0) is None


@pytest.mark.parametrize(
    ("max_cost", "seconds"), [(None, None), (2.0, 0.0), (1.0, 0.0), (4.0, HOUR / 2)]
)
def test_for_how_long_a_whole_machine_may_work_on_a_task(
    session: Session, task: TaskRow, max_cost: float | None, seconds: float | None
) -> None:
    """By the group's price, 4 US$ an hour, and without the current attempt."""
    task.max_cost = max_cost
    assert seconds_until_max_cost(session, task) == (
        None if seconds is None else pytest.approx(seconds)
    )


def test_the_limit_is_explained_with_both_amounts() -> None:
    sentence = limit_sentence(5.0, 3.0)
    assert "US$ 5.00" in sentence
    assert "US$ 3.00 (max_cost)" in sentence


@pytest.mark.parametrize(
    ("max_cost", "now", "is_over"),
    [(3.0, 2 * HOUR, False), (3.0, 2.1 * HOUR, True), (None, 99 * HOUR, False)],
)
def test_tasks_over_their_limit_are_found_by_a_query(
    session: Session, task: TaskRow, max_cost: float | None, now: float, is_over: bool
) -> None:
    task.max_cost = max_cost
    session.flush()
    found = session.scalars(select(TaskRow.id).where(is_over_max_cost(now))).all()
    assert found == ([task.id] if is_over else [])


@pytest.mark.parametrize(
    ("span", "cost"),
    [
        (None, 3.0),
        ((0.0, HOUR), 2.0),
        ((HOUR / 2, 1.5 * HOUR), 1.5),
        ((9 * HOUR, 10 * HOUR), None),
    ],
)
def test_projects_cost_what_was_held_within_a_span(
    session: Session, task: TaskRow, span: tuple[float, float] | None, cost: float | None
) -> None:
    found = costs_of_projects(session, task.user_id, 2 * HOUR, span)
    assert found == ({} if cost is None else {"default": pytest.approx(cost)})
    assert costs_of_projects(session, task.user_id, 2 * HOUR, span, "another") == {}


MACHINES: list[tuple[dict[str, Any], float]] = [
    ({"launched_at": None}, 0.0),  # it was noted and never launched
    ({"launched_at": HOUR}, 1.0),
    ({"launched_at": HOUR, "price_hour": 4.0}, 4.0),
    ({"launched_at": HOUR, "terminated_at": 1.5 * HOUR}, 0.5),
    ({"launched_at": HOUR, "terminated_at": 0.5 * HOUR}, 0.0),  # a clock went back
    ({"launched_at": None, "last_seen_at": 1.0}, 2.0),  # from its creation
]


@pytest.mark.parametrize(("fields", "cost"), MACHINES)
def test_a_machine_costs_the_same_in_python_and_in_sql(
    session: Session, fields: dict[str, Any], cost: float
) -> None:
    group = make_group(session, price_hour=1.0)
    machine = MachineRow(
        id="m",
        group_id=group.id,
        name="m",
        status="started",
        handle={},
        created_at=0.0,
        **{"price_hour": 0.0, **fields},
    )
    session.add(machine)
    session.flush()
    now = 2 * HOUR
    assert machine_cost(machine, group.price_hour, now) == pytest.approx(cost)
    row = session.execute(
        select(cost_of_machines(now, (0.0, now)), hours_of_machines(now, (0.0, now)))
        .select_from(MachineRow)
        .join(GroupRow, GroupRow.id == MachineRow.group_id)
    ).one()
    assert row[0] == pytest.approx(cost)
    assert row[1] == pytest.approx(cost / (fields.get("price_hour") or 1.0))


@pytest.mark.parametrize(
    ("moment", "month"),
    [
        (0.0, Month(1970, 1)),
        (1_767_225_599.0, Month(2025, 12)),
        (1_767_225_600.0, Month(2026, 1)),
    ],
)
def test_the_month_of_a_moment(moment: float, month: Month) -> None:
    assert Month.at(moment) == month
    assert month.span[0] <= moment < month.span[1]


@pytest.mark.parametrize(("month", "after"), [((2026, 1), (2026, 2)), ((2026, 12), (2027, 1))])
def test_the_month_after(month: tuple[int, int], after: tuple[int, int]) -> None:
    assert Month(*month).next == Month(*after)


@pytest.mark.parametrize("year", [FIRST_YEAR, LAST_YEAR])
def test_the_first_and_the_last_month_have_a_span(year: int) -> None:
    first, last = Month(year, 1), Month(year, 12)
    assert len(months_between(first, last)) == 12
    assert first.span[0] < last.span[1]


def test_what_a_user_pays_is_split_by_month_and_by_group(session: Session) -> None:
    group = make_group(session, price_hour=2.0)
    january, february = Month(2026, 1), Month(2026, 2)
    border = february.span[0]
    session.add(
        MachineRow(
            id="m",
            group_id=group.id,
            name="m",
            status="terminated",
            handle={},
            created_at=border - HOUR,
            launched_at=border - HOUR,
            terminated_at=border + 2 * HOUR,
        )
    )
    session.flush()
    now = border + 99 * HOUR
    costs = costs_by_month(session, group.user_id, months_between(january, february), now)
    assert costs == {january: pytest.approx(2.0), february: pytest.approx(4.0)}
    (row,) = costs_by_group(session, group.user_id, february, now)
    assert row.name == group.name
    assert (row.cost, row.hours) == pytest.approx((4.0, 2.0))
    assert costs_by_group(session, group.user_id, february.next, now) == []
    assert costs_by_project(session, group.user_id, february, now) == []


def test_a_price_that_is_set_stands_over_the_table_until_it_is_unset(session: Session) -> None:
    set_price(session, CATALOGUE, "op", "c5", spot=0.5)
    set_price(session, CATALOGUE, "op", "c5", on_demand=3.0)
    kind = priced_machine_types(session, CATALOGUE)["c5"]
    assert (kind.on_demand, kind.spot) == (3.0, 0.5)
    assert price_states(session, CATALOGUE)["c5"].table == C5
    assert unset_price(session, CATALOGUE, "op", "c5").kind == C5
    assert priced_machine_types(session, CATALOGUE) == {"c5": C5}


@pytest.mark.parametrize("prices", [{}, {"spot": -1.0}, {"on_demand": 1e7}, {"spot": float("nan")}])
def test_a_price_that_cannot_be_is_refused(session: Session, prices: dict[str, float]) -> None:
    with pytest.raises(Invalid):
        set_price(session, CATALOGUE, "op", "c5", **prices)
    assert priced_machine_types(session, CATALOGUE) == {"c5": C5}


def test_a_price_of_an_unknown_machine_type_is_refused(session: Session) -> None:
    with pytest.raises(ResourceNotFound, match="c5"):
        set_price(session, CATALOGUE, "op", "c6", spot=1.0)
    with pytest.raises(ResourceNotFound, match="c5"):
        unset_price(session, CATALOGUE, "op", "c6")
