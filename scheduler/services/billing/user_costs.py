"""The costs of a user: the hours of the machines of their groups, month by month."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from scheduler.services.billing.costs import cost_of_machines, costs_of_projects, hours_of_machines
from scheduler.services.errors import Invalid
from scheduler.store.models import GroupRow, MachineRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

#: Months of one request at the most.
MOST_MONTHS = 120
#: Years that can be asked for: those that seconds since the epoch begin with, and up to the last
#: whose every month ends before the year 10000, which `datetime` does not have.
FIRST_YEAR, LAST_YEAR = 1970, 9998


@dataclass(frozen=True, order=True)
class Month:
    """A month in UTC."""

    year: int
    month: int

    def __str__(self) -> str:
        return f"{self.year:04}-{self.month:02}"

    @classmethod
    def at(cls, moment: float) -> Month:
        """The month of a moment, seconds since the epoch."""
        found = datetime.fromtimestamp(moment, UTC)
        return cls(found.year, found.month)

    @property
    def next(self) -> Month:
        """The month after."""
        return Month(self.year + self.month // 12, self.month % 12 + 1)

    @property
    def span(self) -> tuple[float, float]:
        """Its start and the start of the next month, seconds since the epoch."""
        return self._begin, self.next._begin

    @property
    def _begin(self) -> float:
        return datetime(self.year, self.month, 1, tzinfo=UTC).timestamp()


@dataclass(frozen=True)
class GroupCost:
    """The cost of a group's machines in a month, US$, and their hours."""

    name: str
    cost: float
    hours: float


def months_between(first: Month, last: Month) -> list[Month]:
    """Return every month from one to the other.
    Raises Invalid: there is none, or there are too many."""
    if last < first:
        raise Invalid(f"end_month: {last} is before {first}.")
    found = [first]
    while found[-1] < last:
        if len(found) == MOST_MONTHS:
            raise Invalid(f"start_year: at most {MOST_MONTHS} months can be listed at once.")
        found.append(found[-1].next)
    return found


def costs_by_month(
    session: Session, user_id: str, months: list[Month], now: float
) -> dict[Month, float]:
    """Return month → US$ of the user's machines, by one query."""
    begin, end = months[0].span[0], months[-1].span[1]
    row = session.execute(
        select(*(cost_of_machines(now, m.span) for m in months))
        .select_from(MachineRow)
        .join(GroupRow, GroupRow.id == MachineRow.group_id)
        .where(
            GroupRow.user_id == user_id,
            MachineRow.created_at < end,
            func.coalesce(MachineRow.terminated_at, now) > begin,
        )
    ).one()
    return {month: float(cost) for month, cost in zip(months, row, strict=True)}


def costs_by_group(session: Session, user_id: str, month: Month, now: float) -> list[GroupCost]:
    """Return the groups that had machines in a month, the most expensive first."""
    begin, end = month.span
    cost = cost_of_machines(now, month.span)
    rows = session.execute(
        select(GroupRow.name, cost, hours_of_machines(now, month.span))
        .join(MachineRow, MachineRow.group_id == GroupRow.id)
        .where(
            GroupRow.user_id == user_id,
            MachineRow.created_at < end,
            func.coalesce(MachineRow.terminated_at, now) > begin,
        )
        .group_by(GroupRow.id, GroupRow.name)
        .order_by(cost.desc(), GroupRow.name)
    )
    return [GroupCost(name, float(cost), float(hours)) for name, cost, hours in rows]


def costs_by_project(
    session: Session, user_id: str, month: Month, now: float
) -> list[tuple[str, float]]:
    """Return the projects and the US$ of their tasks in a month, the most expensive first."""
    found = costs_of_projects(session, user_id, now, month.span)
    return sorted(found.items(), key=lambda row: (-row[1], row[0]))
