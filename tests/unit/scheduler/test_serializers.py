"""SQL rows as the HTTP contract's JSON."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.api.event_serializers import delivery_json, event_json, whole_event_json
from scheduler.api.serializers import (
    attempt_json,
    dollars,
    history_json,
    isoformat_utc,
    operation_json,
    project_json,
    quarantine_json,
    task_json,
    task_status_json,
    transfer_json,
)
from scheduler.services.projects.projects import ProjectState
from scheduler.store.models import (
    AttemptRow,
    GroupRow,
    ProjectRow,
    StatusChange,
    TaskOperation,
    TaskRow,
    TransferRow,
)
from scheduler.store.notification_models import Delivery, Registration
from simherd.contract.lifecycle import TABLE, TERMINAL, Status
from simherd.contract.notifications import ActionType, NotificationTrigger, TriggerType


def _task(**fields: Any) -> TaskRow:
    values: dict[str, Any] = {
        "id": "t1",
        "status": Status.SUBMITTED.value,
        "simulator": "openfoam",
        "attempt": 1,
        "attempt_floor": 0,
        "attempts_before": 0,
        "storage_prefix": "",
        "create_time": 1000.0,
        "metrics": {},
        "losses": 0,
        "extra_params": {},
    }
    return TaskRow(**{**values, **fields})


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (None, None),
        (0.0, "1970-01-01T00:00:00.000000+00:00"),
        (1.5, "1970-01-01T00:00:01.500000+00:00"),
        (1_700_000_000, "2023-11-14T22:13:20.000000+00:00"),
    ],
)
def test_times_are_written_in_utc_with_microseconds(at: float | None, text: str | None) -> None:
    assert isoformat_utc(at) == text


@pytest.mark.parametrize(("amount", "sent"), [(0.0, 0.0), (1.23456789, 1.234568), (-0.0, 0.0)])
def test_amounts_are_rounded_to_a_millionth(amount: float, sent: float) -> None:
    assert dollars(amount) == sent


@pytest.mark.parametrize("status", Status)
def test_a_task_of_any_status_has_its_label(status: Status) -> None:
    found = task_json(_task(status=status.value), "p", "g", 0.5)
    assert found["status"] == status.value
    assert found["status_alias"] == TABLE[status].label
    assert found["is_terminated"] == (status in TERMINAL)


def test_a_task_has_a_duration_only_once_it_has_ended() -> None:
    assert task_json(_task(), "p", "g", 0)["duration_seconds"] is None
    assert task_json(_task(end_time=1002.5), "p", "g", 0)["duration_seconds"] == 2.5


def test_a_task_shows_its_simulators_alias_where_it_has_one() -> None:
    assert task_json(_task(), "p", "g", 0)["simulator"] == "openfoam"
    assert task_json(_task(simulator_alias="mine"), "p", "g", 0)["simulator"] == "mine"


def test_a_task_that_never_ran_names_its_first_attempts_output() -> None:
    never, once = (task_json(_task(attempt=n), "p", "g", 0) for n in (0, 1))
    assert never["storage_output_path"] == once["storage_output_path"]


@pytest.mark.parametrize(
    ("ahead", "position"), [(None, None), (0, {"tasks_ahead": 0}), (7, {"tasks_ahead": 7})]
)
def test_a_position_in_the_queue_is_null_or_a_number(ahead: int | None, position: Any) -> None:
    assert task_status_json(_task(), ahead) == {
        "id": "t1",
        "status": Status.SUBMITTED.value,
        "position_in_queue": position,
        "is_terminated": False,
    }


def _operation(**fields: Any) -> TaskOperation:
    values = {
        "name": "download_container",
        "status": "OK",
        "started_at": 1.0,
        "attributes": {"a": 1},
    }
    return TaskOperation(**{**values, **fields})


def test_operations_stand_below_the_status_in_which_they_began() -> None:
    changes = [
        StatusChange(id=1, status="submitted", at=1.0, attempt=1, description="one"),
        StatusChange(id=2, status="started", at=2.0, attempt=1, description="two"),
    ]
    history = history_json(changes, {2: [_operation()]})
    assert [len(entry["operations"]) for entry in history] == [0, 1]
    assert [entry["description"] for entry in history] == ["one", "two"]


def test_a_running_operation_has_no_end() -> None:
    assert operation_json(_operation())["end_timestamp"] is None
    assert operation_json(_operation(ended_at=2.0))["end_timestamp"] is not None


def test_an_attempt_has_its_machines_name_and_rounded_cost() -> None:
    found = attempt_json(AttemptRow(attempt=2, started_at=1.0, saved={}), "m1", 0.12345678)
    assert (found["machine_name"], found["cost"], found["ended_at"]) == ("m1", 0.123457, None)


def test_a_quarantine_has_its_reason_or_is_null() -> None:
    assert quarantine_json(GroupRow()) is None
    group = GroupRow(quarantined_at=0.0, quarantine_reason="foreign keys")
    assert quarantine_json(group) == {"since": isoformat_utc(0.0), "reason": "foreign keys"}


def test_a_project_counts_its_tasks() -> None:
    project = ProjectRow(id="p", name="n", project_type="project", created_at=0.0)
    found = project_json(ProjectState(project, {"success": 2, "failed": 1}, 1.0))
    assert found["num_tasks"] == 3
    assert found["task_status_overview"] == {"success": 2, "failed": 1}


def test_a_transfer_shows_no_more_of_its_url_than_the_host() -> None:
    row = TransferRow(id="x", url="https://user:word@host.example/path?signature=secret")
    found = transfer_json(row)
    assert found["host"] == "host.example"
    assert "secret" not in str(found)
    assert "word" not in str(found)


def _registration(**fields: Any) -> Registration:
    values: dict[str, Any] = {
        "id": "e1",
        "trigger_type": TriggerType.TASK.value,
        "trigger": NotificationTrigger.TASK_FAILED.value,
        "task_id": "t1",
        "action_type": ActionType.EMAIL.value,
        "target": "a@b",
        "secret": "whsec_x",
        "state": "waiting",
        "created_at": 0.0,
    }
    return Registration(**{**values, **fields})


@pytest.mark.parametrize(
    ("fields", "trigger"),
    [
        ({}, {"trigger_type": "task", "task_id": "t1"}),
        (
            {"trigger_type": TriggerType.MACHINE_GROUP.value, "group_id": "g1"},
            {"trigger_type": TriggerType.MACHINE_GROUP.value, "machine_group_id": "g1"},
        ),
    ],
)
def test_a_trigger_has_exactly_the_contracts_keys(
    fields: dict[str, Any], trigger: dict[str, Any]
) -> None:
    assert event_json(_registration(**fields))["trigger"] == trigger


@pytest.mark.parametrize("regex", [None, "a+"])
def test_an_observer_has_a_regex_only_where_one_is_given(regex: str | None) -> None:
    row = _registration(
        trigger_type=TriggerType.OBSERVER.value,
        trigger=NotificationTrigger.FILE_EXISTS.value,
        file_path="f",
        regex=regex,
    )
    trigger = event_json(row)["trigger"]
    assert trigger.get("regex") == regex
    assert ("regex" in trigger) == (regex is not None)


@pytest.mark.parametrize(
    ("action", "field"), [(ActionType.EMAIL, "email_address"), (ActionType.WEBHOOK, "webhook_url")]
)
def test_an_action_names_its_target(action: ActionType, field: str) -> None:
    row = _registration(action_type=action.value)
    assert event_json(row)["action"] == {"action_type": action.value, field: "a@b"}


def test_an_event_never_shows_its_secret() -> None:
    assert "whsec" not in str(whole_event_json(_registration()))


def test_a_delivery_without_a_next_try_says_so() -> None:
    row = Delivery(id="d", at=0.0, facts={}, state="delivered", tries=1, next_at=0.0)
    assert delivery_json(row)["next_try_at"] is None
    row.next_at = 1.0
    assert delivery_json(row)["next_try_at"] == isoformat_utc(1.0)
