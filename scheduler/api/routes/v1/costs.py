"""A month's costs by machine group and project, beyond the published contract."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import Query
from pydantic import AfterValidator

from scheduler.api.deps import RuntimeDep, UserDep
from scheduler.api.patterns import MONTH
from scheduler.api.serializers import dollars
from scheduler.api.strict import StrictRouter
from scheduler.services import transaction
from scheduler.services.billing.user_costs import (
    FIRST_YEAR,
    LAST_YEAR,
    Month,
    costs_by_group,
    costs_by_project,
)

router = StrictRouter(prefix="/v1/costs", tags=["users"])


def _within_years(text: str | None) -> str | None:
    if text is not None and not FIRST_YEAR <= int(text[:4]) <= LAST_YEAR:
        raise ValueError(f"months are those of the years {FIRST_YEAR} to {LAST_YEAR}")
    return text


#: A month: `2026-07`.
MonthText = Annotated[str | None, Query(pattern=MONTH), AfterValidator(_within_years)]


@router.get("")
def costs(rt: RuntimeDep, user: UserDep, month: MonthText = None) -> dict[str, Any]:
    """What a month (`2026-07`; default: this one) cost, by group and by project.

    Groups: their machines, whether they worked or not. Projects: what their tasks held of them.
    """
    now = time.time()
    chosen = Month.at(now) if month is None else Month(int(month[:4]), int(month[5:]))
    groups = transaction.read(rt, costs_by_group, user.id, chosen, now)
    projects = transaction.read(rt, costs_by_project, user.id, chosen, now)
    return {
        "month": str(chosen),
        "currency": "USD",
        "total": dollars(sum(g.cost for g in groups)),
        "groups": [
            {"name": g.name, "cost": dollars(g.cost), "machine_hours": round(g.hours, 6)}
            for g in groups
        ],
        "projects": [{"name": name, "cost": dollars(cost)} for name, cost in projects],
    }
