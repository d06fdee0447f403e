"""The user's own account."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import Query

from scheduler.api.deps import RuntimeDep, UserDep
from scheduler.api.serializers import dollars, isoformat_utc, quotas_json
from scheduler.api.strict import StrictRouter
from scheduler.services import transaction
from scheduler.services.billing.quotas import quota_states
from scheduler.services.billing.user_costs import (
    FIRST_YEAR,
    LAST_YEAR,
    Month,
    costs_by_month,
    months_between,
)
from scheduler.services.errors import Invalid

router = StrictRouter(prefix="/users", tags=["users"])

Year = Annotated[int, Query(ge=FIRST_YEAR, le=LAST_YEAR)]
MonthNumber = Annotated[int, Query(ge=1, le=12)]


@router.get("/info")
def info(user: UserDep) -> dict[str, Any]:
    """The user to whom the key belongs."""
    return {
        "email": user.email,
        "username": user.username,
        "name": user.username,
        "tier": "operator",
        "total_available_credits": 0,
        "credits_currency": "USD",
        "terms_and_conditions_decision": "accepted",
        "registration_ts": isoformat_utc(user.created_at),
        "costs_fee_percentage": 0,
        "terminate_resources_credits_threshold": 0,
        "extra_metadata": {},
    }


@router.get("/quotas")
def quotas(rt: RuntimeDep, user: UserDep) -> dict[str, Any]:
    """What the user may have at one time (null: unlimited), and has now."""
    return quotas_json(quota_states(rt, user))


@router.get("/costs")
def costs(
    rt: RuntimeDep,
    user: UserDep,
    start_year: Year,
    start_month: MonthNumber,
    end_year: Year | None = None,
    end_month: MonthNumber | None = None,
) -> dict[str, Any]:
    """What the user's machines cost, month by month; until this month where no end is given."""
    now = time.time()
    first, this = Month(start_year, start_month), Month.at(now)
    if (end_year is None) != (end_month is None):
        raise Invalid("end_year and end_month: both or neither.")
    last = max(first, this) if end_year is None or end_month is None else Month(end_year, end_month)
    months = months_between(first, last)
    costs_of = transaction.read(rt, costs_by_month, user.id, months, now)
    return {
        "currency": "USD",
        "credits": 0,
        "costs": [_month(m, c, this) for m, c in costs_of.items()],
    }


def _month(month: Month, cost: float, this: Month) -> dict[str, Any]:
    compute = dollars(cost)
    return {
        "month": str(month),
        "total": compute,
        "components": {
            "compute": compute,
            "storage": 0,
            "data_transfer": 0,
            "task_orchestration": 0,
        },
        # The costs of a past month no longer change.
        "type": "consolidated" if month < this else "estimate",
    }


@router.get("/fees")
def fees(user: UserDep) -> dict[str, Any]:
    """A self-hosted server takes no fees."""
    none = {"amount": 0, "active": False, "active_since": None, "unit": "%"}
    return {"costs_fee_percentage": none, "task_orchestration_fee": {**none, "unit": "USD"}}
