"""Hours times price, and months."""

from __future__ import annotations

import pytest

from scheduler.services.billing.costs import (
    attempt_cost,
    cost_of_seconds,
    machine_cost,
    seconds_affordable,
)
from scheduler.services.billing.user_costs import MOST_MONTHS, Month, months_between
from scheduler.services.errors import Invalid
from scheduler.store.models import AttemptRow, MachineRow
from simherd.utils import format_money


def test_an_hour_costs_the_price() -> None:
    assert cost_of_seconds(3600, 0.5) == 0.5
    assert cost_of_seconds(-5, 0.5) == 0
    assert seconds_affordable(0.25, 0.5) == 1800
    assert seconds_affordable(-1, 0.5) == 0
    assert seconds_affordable(1, 0) is None


def test_an_attempt_costs_until_it_ends() -> None:
    row = AttemptRow(started_at=1000.0, ended_at=None, price_hour=2.0)
    assert attempt_cost(row, 2800.0) == 1.0
    row.ended_at = 1900.0
    assert attempt_cost(row, 2800.0) == 0.5


def test_a_machine_costs_from_its_launch_until_it_is_terminated() -> None:
    machine = MachineRow(created_at=0.0, launched_at=None, last_seen_at=None, price_hour=0.0)
    assert machine_cost(machine, 1.0, 7200.0) == 0
    machine.last_seen_at = 10.0
    assert machine_cost(machine, 1.0, 7200.0) == 2.0
    machine.launched_at, machine.price_hour = 3600.0, 4.0
    assert machine_cost(machine, 1.0, 7200.0) == 4.0
    machine.terminated_at = 5400.0
    assert machine_cost(machine, 1.0, 7200.0) == 2.0


def test_months_follow_each_other() -> None:
    found = months_between(Month(2025, 11), Month(2026, 2))
    assert [str(m) for m in found] == ["2025-11", "2025-12", "2026-01", "2026-02"]
    assert Month.at(Month(2026, 2).span[0]) == Month(2026, 2)
    assert Month(2026, 1).span[1] == Month(2026, 2).span[0]


@pytest.mark.parametrize("last", [Month(2025, 10), Month(2025 + MOST_MONTHS // 12, 11)])
def test_invalid_months_are_refused(last: Month) -> None:
    with pytest.raises(Invalid):
        months_between(Month(2025, 11), last)


def test_money_is_written_for_people() -> None:
    written = [format_money(x) for x in (None, 0, 0.01234, 0.5, 12.3456)]
    assert written == ["-", "US$ 0.00", "US$ 0.0123", "US$ 0.5", "US$ 12.35"]
