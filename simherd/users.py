"""The user's own account: what they may have, and what it costs."""

from __future__ import annotations

from typing import Any

from simherd.errors import InvalidInput
from simherd.http import api

__all__ = ["get_cost_shares", "get_costs", "get_fees", "get_info", "get_quotas"]


def get_info() -> dict[str, Any]:
    """Return the user of the key: `username`, `email`, `registration_ts` and more."""
    found: dict[str, Any] = api().get("/users/info")
    return found


def get_fees() -> dict[str, dict[str, Any]]:
    """The fees of the server beside the cost of machines; a Simherd server takes none."""
    found: dict[str, dict[str, Any]] = api().get("/users/fees")
    return found


def get_quotas() -> dict[str, dict[str, Any]]:
    """Quota name → its fields: `label`, `unit`, `max_allowed` (None: unlimited), `in_use` (None:
    not counted)."""
    found: dict[str, dict[str, Any]] = api().get("/users/quotas")
    return found


def get_costs(
    start_year: int,
    start_month: int,
    end_year: int | None = None,
    end_month: int | None = None,
) -> list[dict[str, Any]]:
    """What the user's machines cost, US$, a row a month, until this one where no end is given.

    Raises:
        InvalidInput: only one half of the end is given.
        ApiError: there is no such month, or the end is before the start.
    """
    if (end_year is None) != (end_month is None):
        raise InvalidInput("end_month: end_year and end_month are given both or not at all.")
    found: list[dict[str, Any]] = api().get(
        "/users/costs",
        start_year=start_year,
        start_month=start_month,
        end_year=end_year,
        end_month=end_month,
    )["costs"]
    return found


def get_cost_shares(month: str | None = None) -> dict[str, Any]:
    """What a month cost, US$: `total`, `groups` (their machines, with `machine_hours`) and
    `projects` (what their tasks held of machines).

    Args:
        month: such as `2026-07`; by default this one.

    Raises:
        ApiError: this is not a month.
    """
    found: dict[str, Any] = api().get("/v1/costs", month=month)
    return found
