"""What tasks, groups and months cost, what stops a task for its money, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.env import Env
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

#: A machine of these costs a cent in a second.
_TYPES = """
[providers]
LOCAL = "local"
GCP = "local"

[defaults]
zone = "local-a"
region = "local"

[[machine_type]]
name = "local"
vcpus = 2
memory_gb = 4
on_demand = 36.0
spot = 36.0

[[machine_type]]
name = "c2-standard-4"
vcpus = 4
memory_gb = 16
on_demand = 72.0
spot = 18.0
"""


@pytest.fixture(scope="module")
def paid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Env]:
    """A Simherd whose machines are dear; two tasks share one."""
    folder = tmp_path_factory.mktemp("paid")
    types = folder / "types.toml"
    types.write_text(_TYPES)
    made = Env(
        folder,
        *("--backend", "process", "--slots", "2"),
        SIMHERD_MACHINE_TYPES_FILE=str(types),
        SIMHERD_SWEEP_S="1",
        # One machine costs more than users may spend by default.
        SIMHERD_DEFAULT_QUOTAS='{"max_price_hour": null}',
        SIMHERD_PROVIDERS="local,external",
    )
    made.start()
    yield made
    made.stop()


def quota(env: Env, name: str, value: str) -> None:
    """Set a quota as the operator does."""
    change = ("unset", "local", name) if value == "none" else ("set", "local", name, value)
    done = env.cli("admin", "quotas", *change)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def limited(paid: Env) -> Iterator[Env]:
    """The user has quotas."""
    quotas = {"max_vcpus": "4", "max_queued_tasks": "1"}
    for name, value in quotas.items():
        quota(paid, name, value)
    yield paid
    for name in quotas:
        quota(paid, name, "none")


def attempts(env: Env, task_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = env.api.get(f"/v1/tasks/{task_id}/attempts").json()
    return found


def test_a_task_is_stopped_when_it_has_cost_what_it_may(paid: Env) -> None:
    # Half of a machine for six seconds; its time would last for long, also when it is extended.
    command = "sh -c 'echo saved > saved.txt; exec sleep 600'"
    task_id = paid.submit(command, max_cost=0.03, time_to_live_seconds=3000)
    paid.wait_for(task_id, "computation-started")
    paid.api.post(f"/v1/tasks/{task_id}/extend", json={"seconds": 600}).raise_for_status()
    task = paid.wait(task_id)
    assert (task["status"], task["cause"]) == ("ttl-exceeded", "cost_limit")
    assert "they may cost US$ 0.03" in task["error_detail"]
    assert task["estimated_computation_cost"] >= 0.03
    assert task["metrics"]["computation_seconds"] > 1
    assert paid.outputs(task_id)["saved.txt"] == b"saved\n"
    (attempt,) = attempts(paid, task_id)
    assert attempt["price_hour"] == 18.0
    assert attempt["cause"] == "cost_limit"
    assert attempt["saved"] == {"output_bytes": task["metrics"]["output_zipped_size_bytes"]}
    assert attempt["cost"] == task["estimated_computation_cost"]


def test_our_command_line_sets_the_limit_and_shows_the_cost(paid: Env) -> None:
    run = ("run", "-I", "docker://debian:bookworm", "--max-cost", "0.5", "--", "true")
    task_id = paid.cli(*run).stdout.strip()
    assert paid.wait(task_id)["max_cost"] == 0.5
    assert "of at most US$ 0.5" in paid.cli("tasks", "info", task_id).stdout
    refused = paid.cli("run", "-I", "any", "--max-cost", "-1", "--", "true")
    assert (refused.returncode, "max_cost" in refused.stderr) == (1, True)
    for wrong in (0, -1, "much"):
        answer = paid.api.post("/tasks/submit", json={"max_cost": wrong})
        assert "max_cost" in answer.json()["detail"]


def test_each_attempt_is_told_with_its_machine_and_its_end(paid: Env) -> None:
    task_id = paid.submit("sleep 600", resubmit_on_preemption=True)
    paid.wait_for(task_id, "computation-started")
    paid.kill_part("agent")
    until(lambda: len(attempts(paid, task_id)) == 2, what="the second attempt")
    paid.wait_for(task_id, "computation-started")
    paid.api.post(f"/tasks/{task_id}/kill")
    paid.wait(task_id)
    first, second = attempts(paid, task_id)
    assert (first["attempt"], first["cause"], first["saved"]) == (1, "machine_lost", {})
    assert (second["attempt"], second["cause"]) == (2, "killed_by_user")
    assert first["machine_name"].startswith("local-")
    assert first["ended_at"] <= second["started_at"] < second["ended_at"]
    shown = paid.cli("tasks", "info", task_id).stdout
    assert "machine_lost" in shown
    assert "killed_by_user" in shown
    script = (
        f"import json, simherd; print(json.dumps(simherd.tasks.Task({task_id!r}).get_attempts()))"
    )
    assert json.loads(paid.python(script, paid.folder)) == [first, second]


def test_quotas_are_refused_with_their_value_and_the_use(limited: Env, tmp_path: Path) -> None:
    body = {"machine_type": "c2-standard-4", "provider_id": "GCP"}
    group = limited.api.post("/compute/group", json=body).json()
    start = limited.api.post("/compute/group/start", params={"machine_group_id": group["id"]})
    assert start.status_code == 403
    assert start.json()["detail"] == (
        "max_vcpus: 4 allowed, 2 in use, 4 more asked for. An operator can raise it: "
        "`simherd admin quotas set USERNAME max_vcpus VALUE`."
    )
    script = """
import simherd
try:
    simherd.resources.MachineGroup("c2-standard-4", num_machines=2)
except simherd.SimherdError as error:
    print(error)
"""
    said = limited.python(script, tmp_path).strip()
    assert said.startswith("max_vcpus: 8 asked for is more than the 4 allowed altogether.")
    listed = limited.cli("quotas", "list").stdout
    (row,) = [line.split() for line in listed.splitlines() if line.startswith("max_vcpus")]
    assert row[-3:] == ["2", "4", "vcpu"]
    # One that waits for machines that never come fills the queue.
    waiting = limited.submit("true", group=group["name"])
    with pytest.raises(AssertionError, match="max_queued_tasks: 1 allowed, 1 in use, 1 more"):
        limited.submit("true")
    limited.api.post(f"/tasks/{waiting}/kill")
    limited.wait(waiting)


@pytest.mark.conforms("MachineGroup.start", "MachineGroup.can_start_resource")
def test_a_group_starts_once_another_has_made_room(limited: Env, tmp_path: Path) -> None:
    script = """
import threading
from simherd.resources import MachineGroup
first, second = (MachineGroup("local", machines_from="external") for _ in range(2))
print(second.can_start_resource())
first.start(wait_for_quotas=True)
print(second.can_start_resource())
starter = threading.Thread(target=second.start, args=(True,))
starter.start()
first.terminate()
starter.join()
print(second.info["status"])
second.terminate()
"""
    said = limited.python(script, tmp_path).splitlines()
    assert said[:2] == ["True", "False"]
    assert said[-1] == "starting"


def test_the_published_client_sees_quotas_and_costs(limited: Env, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    script = f"""
import inductiva, json
quotas = inductiva.users.get_quotas()
(cost,) = inductiva.users.get_costs({now.year}, {now.month})
group = inductiva.resources.MachineGroup("c2-standard-4")
try:
    group.start()
    refused = ""
except Exception as error:
    refused = str(error)
vcpus = quotas["max_vcpus"]
print("SEEN " + json.dumps([
    vcpus.max_allowed, vcpus.in_use, quotas["max_price_hour"].in_use, sorted(quotas),
    cost.month, cost.total, cost.components.compute, cost.type.value,
    group.can_start_resource(), refused]))
"""
    seen = json.loads(limited.python(script, tmp_path).rpartition("SEEN ")[2])
    assert seen[:3] == [4, 2, 36.0]
    assert seen[3] == [
        *("max_instances", "max_price_hour", "max_queued_tasks", "max_storage_gb", "max_vcpus")
    ]
    assert seen[4] == f"{now:%Y-%m}"
    assert seen[5] == seen[6] > 0
    assert seen[7:9] == ["estimate", False]
    assert "max_vcpus: 4 allowed, 2 in use, 4 more asked for." in seen[9]


def test_groups_projects_and_months_add_up(paid: Env) -> None:
    task_id = paid.submit("true", project="dear/study")
    cost = paid.wait(task_id)["estimated_computation_cost"]
    assert cost > 0
    assert paid.api.get("/projects/dear%2Fstudy").json()["estimated_computation_cost"] == cost
    (listed,) = [t for t in paid.api.get("/tasks").json()["tasks"] if t["task_id"] == task_id]
    assert listed["estimated_computation_cost"] == cost
    group = paid.api.get("/compute/group/local").json()
    assert group["costs"]["cost"] > 0
    assert group["machines"][0]["cost"] <= group["costs"]["cost"] + 1e-5
    month = paid.api.get("/v1/costs").json()
    shares = {row["name"]: row["cost"] for row in month["projects"]}
    assert shares["dear/study"] == pytest.approx(cost, abs=1e-5)
    (local,) = [row for row in month["groups"] if row["name"] == "local"]
    assert local["cost"] == pytest.approx(local["machine_hours"] * 36.0, abs=1e-3)
    assert "dear/study" in paid.cli("costs").stdout
    earlier = paid.cli("costs", "--month", "2020-02").stdout
    assert "2020-02: US$ 0.00" in earlier
    query = {"start_year": 2020, "start_month": 1, "end_year": 2019, "end_month": 1}
    assert paid.api.get("/users/costs", params=query).status_code == 422
    assert paid.api.get("/v1/costs?month=soon").status_code == 422
