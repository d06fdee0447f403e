"""When a delivery is tried again, and what a notification says."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.services.notifications.deliver import (
    BACKOFF,
    DELIVERY_FIRST_WAIT_S,
    DELIVERY_LONGEST_WAIT_S,
    DELIVERY_TRIES,
    payload,
)
from scheduler.store.notification_models import Delivery, Registration


@pytest.mark.parametrize("tries", range(1, DELIVERY_TRIES + 1))
def test_waits_double_up_to_the_longest_within_a_quarter(tries: int) -> None:
    usual = min(DELIVERY_FIRST_WAIT_S * 2 ** (tries - 1), DELIVERY_LONGEST_WAIT_S)
    waits = [BACKOFF.after(tries) for _ in range(50)]
    assert min(waits) >= 0.75 * usual
    assert max(waits) <= 1.25 * usual


def test_waits_differ_so_that_many_deliveries_do_not_come_at_once() -> None:
    assert len({BACKOFF.after(3) for _ in range(20)}) > 1


def _payload(facts: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    event = Registration(id="e1", trigger="task_failed", **fields)
    return payload(Delivery(id="d1", at=0.0, facts=facts or {}), event)


def test_a_payload_names_the_event_its_delivery_and_the_time() -> None:
    assert _payload(task_id="t1") == {
        "event_id": "e1",
        "delivery_id": "d1",
        "trigger": "task_failed",
        "at": "1970-01-01T00:00:00+00:00",
        "task_id": "t1",
    }


@pytest.mark.parametrize(
    ("field", "name"),
    [("task_id", "task_id"), ("group_id", "machine_group_id"), ("file_path", "file_path")],
)
def test_a_payload_has_only_known_fields(field: str, name: str) -> None:
    about = {"task_id", "machine_group_id", "file_path"}
    event_fields: dict[str, Any] = {field: "x"}
    found = _payload(**event_fields)
    assert found.keys() & about == {name}


def test_facts_of_the_delivery_are_added() -> None:
    assert _payload({"status": "failed", "attempt": 2})["attempt"] == 2
