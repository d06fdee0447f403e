"""What the HTTP contract asks servers to look out for (its section 7), by plain requests."""

from __future__ import annotations

import io
import json
import re
import uuid
import zipfile
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.env import zipped
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.env import Env

#: What strings that begin as a date does must look like.
DATE = re.compile(r"\d{4}-\d\d-\d\dT")
WIRE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}(\d{3})?)?\+00:00")
TASK_STATUSES = {
    *("pending-input", "submitted", "started", "computation-started", "computation-ended"),
    *("success", "failed", "pending-kill", "killed", "spot-instance-preempted", "zombie"),
    *("executer-terminated", "executer-terminated-by-user", "executer-failed", "ttl-exceeded"),
    *("executer-terminated-ttl-exceeded", "executer-terminated-credits-exhausted"),
}
#: Field name → the values that clients know.
VALUES = {
    "provider_id": {"GCP", "LOCAL"},
    "type": {"standard", "mpi"},
    "project_type": {"project", "benchmark"},
    "scope": {"global", "instance"},
    "terms_and_conditions_decision": {"unknown", "accepted", "rejected"},
    "name": {
        *("exec_command", "download_container", "download_input", "uncompress_input"),
        *("compress_output", "upload_output"),
    },
}
GROUP_STATUSES = {
    *("registered", "starting", "start_failed", "started", "shutting_down", "shutdown_failed"),
    "terminated",
}
WHOLE = {
    *("total_size", "num_retries", "total_ram_gb", "cpu_cores_logical", "cpu_cores_physical"),
    *("cpu_count_logical", "cpu_count_physical", "memory", "memory_bytes", "n_mpi_hosts"),
    *("num_vms", "min_vms", "max_vms", "disk_size_gb", "num_tasks", "output_total_files"),
    *("output_size_bytes", "output_zipped_size_bytes", "input_size_bytes", "tasks_ahead"),
}


def body_of(env: Env, **more: Any) -> dict[str, Any]:
    return {
        "simulator": "arbitrary_commands",
        "resource_pool": env.api.get("/compute/group/local").json()["id"],
        "container_image": "any",
        "extra_params": {"commands": [{"cmd": "true"}]},
        **more,
    }


@pytest.fixture(scope="module")
def new(env: Env) -> Iterator[dict[str, Any]]:
    """What submit answered, of a task that waits for its input."""
    made = env.api.post("/tasks/submit", json=body_of(env))
    assert made.status_code == 202
    yield made.json()
    env.api.post(f"/tasks/{made.json()['id']}/kill")


@pytest.fixture(scope="module")
def failed(env: Env) -> str:
    """A task whose second command failed."""
    task_id = env.submit("cat in.txt", "ls nowhere", files={"in.txt": "data"})
    assert env.wait(task_id)["status"] == "failed"
    return task_id


@pytest.fixture(scope="module")
def answers(env: Env, new: dict[str, Any], failed: str) -> list[Any]:
    """Whatever has timestamps, numbers and values of lists."""
    paths = ("/tasks", "/compute/groups", "/compute/group/local", "/projects", "/users/info")
    task_paths = [f"/tasks/{t}{p}" for t in (new["id"], failed) for p in ("", "/status")]
    found = []
    for path in (*paths, *task_paths, "/users/quotas", "/storage/contents?path=/"):
        answer = env.api.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["content-type"] == "application/json"
        found.append(answer.json())
    return found


def walk(found: Any, inside: str = "") -> Iterator[tuple[str, str, Any]]:
    """Each field of an answer: the field that it is in, its name and its value."""
    if isinstance(found, list):
        for entry in found:
            yield from walk(entry, inside)
    elif isinstance(found, dict):
        for name, value in found.items():
            yield inside, name, value
            yield from walk(value, name)


@pytest.mark.conforms("7.1", "7.19", "POST /tasks/submit", "POST /projects", "PUT a signed URL")
@pytest.mark.conforms("GET /storage/signed-urls", "POST /compute/group", "DELETE /compute/group")
def test_each_success_has_its_own_code(env: Env, new: dict[str, Any]) -> None:
    assert (new["status"], new["is_terminated"]) == ("pending-input", False)
    group = env.api.post("/compute/group", json={"machine_type": "local"})
    assert group.status_code == 201
    query = {"machine_group_id": group.json()["id"]}
    assert env.api.delete("/compute/group", params=query).status_code == 202
    assert env.api.post("/projects", json={"name": "codes"}).status_code == 200
    query = {"operation": "upload", "paths": "codes/a.txt"}
    signed = env.api.get("/storage/signed-urls", params=query)
    assert signed.status_code == 200
    assert httpx.put(signed.json()[0], content=b"a", trust_env=False, timeout=60).status_code == 200
    assert env.api.delete("/projects", params={"project_name": "codes"}).status_code == 202
    assert env.api.delete("/storage/", params={"path": "codes"}).status_code == 200


@pytest.mark.conforms("7.2", "7.3", "7.17", "GET /tasks")
def test_rows_of_a_list_lack_nothing(env: Env, new: dict[str, Any], failed: str) -> None:
    found = env.api.get("/tasks", params={"per_page": 500}).json()
    assert found["total_size"] >= len(found["tasks"]) >= 2
    rows = {row["task_id"]: row for row in found["tasks"]}
    for row in (rows[new["id"]], rows[failed], env.task(new["id"]), env.task(failed)):
        assert isinstance(row["metrics"], dict)
        for name in ("project", "status_alias", "simulator", "num_retries", "is_terminated"):
            assert row[name] is not None, name
    assert env.api.get("/tasks", params={"page": 10_000}).json()["tasks"] == []
    for wrong in ({"page": 0}, {"per_page": 501}, {"status": "done"}):
        assert env.api.get("/tasks", params=wrong).status_code == 422
    some = env.api.get("/tasks", params={"status": "failed", "per_page": 1}).json()["tasks"]
    assert [row["status"] for row in some] == ["failed"]


@pytest.mark.conforms("7.4", "GET /tasks/{task_id}", "GET /tasks/{task_id}/status")
def test_there_is_a_history_from_the_start(env: Env, new: dict[str, Any], failed: str) -> None:
    (first,) = env.task(new["id"])["status_history"]
    assert (first["status"], first["end_timestamp"]) == ("pending-input", None)
    assert set(env.api.get(f"/tasks/{failed}/status").json()) >= {
        *("id", "status", "position_in_queue", "is_terminated")
    }
    history = env.task(failed)["status_history"]
    for entry in history:
        assert {"status", "timestamp", "end_timestamp", "description", "alias"} <= set(entry)
        assert all("end_timestamp" in o and "attributes" in o for o in entry["operations"])
    commands = [
        o["attributes"]["command"]
        for entry in history
        for o in entry["operations"]
        if o["name"] == "exec_command"
    ]
    assert commands == ["cat in.txt", "ls nowhere"]


@pytest.mark.conforms("7.5")
def test_times_have_an_offset(answers: list[Any]) -> None:
    times = [v for _, _, v in walk(answers) if isinstance(v, str) and DATE.match(v)]
    assert len(times) > 20
    assert [t for t in times if not WIRE_TIME.fullmatch(t)] == []


@pytest.mark.conforms("7.6")
def test_no_value_is_our_own(answers: list[Any]) -> None:
    for inside, name, value in walk(answers):
        if name == "status":
            known = {"RUNNING", "OK", "FAILED"} if inside == "operations" else TASK_STATUSES
            assert value in known | GROUP_STATUSES, (inside, value)
        elif name in VALUES and (name != "name" or inside == "operations"):
            assert value in VALUES[name], (inside, name, value)


@pytest.mark.conforms("7.7")
def test_whole_numbers_are_whole(answers: list[Any]) -> None:
    found = {name: value for _, name, value in walk(answers) if name in WHOLE and value is not None}
    assert len(found) > 12
    assert {n: v for n, v in found.items() if not isinstance(v, int)} == {}


@pytest.mark.conforms("7.8")
def test_ids_are_as_others_take_them(env: Env, new: dict[str, Any]) -> None:
    assert re.fullmatch(r"[a-z0-9]{25}", new["id"])
    group = env.api.get("/compute/group/local").json()
    for made in (group["id"], *(m["uuid"] for m in group["machines"])):
        assert str(uuid.UUID(made)) == made


@pytest.mark.conforms("7.9", "7.10", "7.11", "GET /version-check", "GET /projects/{name}")
def test_refusals_are_told_in_detail(env: Env) -> None:
    refused: list[tuple[int, str, str, dict[str, Any]]] = [
        (404, "GET", f"/tasks/{'0' * 25}", {}),
        (404, "GET", "/projects/none", {}),
        (404, "GET", "/storage/contents?path=none/", {}),
        (404, "DELETE", "/storage/?path=none/", {}),
        (404, "GET", "/no/such/thing", {}),
        (405, "PATCH", "/tasks", {}),
        (406, "GET", "/version-check?client_version=0.1", {}),
        (409, "POST", "/compute/group", {"json": {"machine_type": "local", "name": "local"}}),
        (413, "POST", "/tasks/submit", {"content": b"x" * 3_000_000}),
        (422, "POST", "/tasks/submit", {"json": {}}),
        (401, "GET", "/tasks", {"headers": {"X-API-Key": "wrong"}}),
    ]
    for code, method, path, more in refused:
        answer = env.api.request(method, path, **more)
        assert answer.status_code == code, f"{method} {path}: {answer.text}"
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["detail"]


@pytest.mark.conforms("7.12", "GET /compute/groups", "GET /compute/group/{name}")
@pytest.mark.conforms("GET /users/quotas", "GET /compute/price")
def test_groups_lack_nothing(env: Env) -> None:
    quotas = set(env.api.get("/users/quotas").json())
    rows = env.api.get("/compute/groups").json()
    assert "local" in [row["name"] for row in rows]
    for row in (*rows, env.api.get("/compute/group/local").json()):
        assert row["zone"]
        cost = row["cost_per_hour"]
        assert all(cost[n] is not None for n in ("min", "max", "min_reason", "max_reason"))
        assert set(row["quota_usage"]) <= quotas
    for machine_type in ("local", "c2-standard-4"):
        price = env.api.get("/compute/price", params={"machine_type": machine_type}).json()
        assert price["preemptible_price"] > 0


@pytest.mark.conforms("7.15")
def test_a_failed_tasks_archive_has_its_logs(env: Env, failed: str) -> None:
    query = {"operation": "download", "paths": env.task(failed)["storage_output_path"]}
    (url,) = env.api.get("/storage/signed-urls", params=query).json()
    content = httpx.get(url, trust_env=False, timeout=60).content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert "artifacts/" in archive.namelist()
        assert b"data" in archive.read("artifacts/stdout.txt")
        assert b"nowhere" in archive.read("artifacts/stderr.txt")


@pytest.mark.conforms("7.21")
def test_slashes_at_the_end_are_where_the_contract_has_them(env: Env) -> None:
    answers = [env.api.get("/events/"), env.api.delete("/storage/", params={"path": "none"})]
    assert [a.status_code for a in answers] == [200, 404]
    with_key = {"X-API-Key": env.key}
    for path in ("/tasks", "/projects", "/compute/groups"):
        answer = httpx.get(env.url + path, headers=with_key, trust_env=False, timeout=60)
        assert (answer.status_code, answer.history) == (200, [])


@pytest.mark.fault("B11")
@pytest.mark.conforms(
    *("7.25", "POST /tasks/{task_id}/input_uploaded", "POST /tasks/{task_id}/kill"),
    *("PUT /tasks/{task_id}/metadata", "GET /tasks/{task_id}/metadata"),
    "POST /compute/group/start",
)
def test_what_is_sent_twice_is_done_once(env: Env) -> None:
    group = env.api.post("/compute/group", json={"machine_type": "local"}).json()
    task_id = env.submit("sleep 600", group=group["name"])
    for _ in range(2):
        assert env.api.post(f"/tasks/{task_id}/input_uploaded").status_code == 200
        assert env.api.put(f"/tasks/{task_id}/metadata", json={"a": "b"}).status_code == 200
        query = {"machine_group_id": group["id"]}
        assert env.api.post("/compute/group/start", params=query).status_code == 200
    env.wait_for(task_id, "computation-started")
    assert env.api.post(f"/tasks/{task_id}/input_uploaded").status_code == 200
    for _ in range(2):
        assert env.api.post(f"/tasks/{task_id}/kill").status_code == 200
    task = env.wait(task_id)
    assert (task["status"], task["attempt"]) == ("killed", 1)
    assert env.api.post(f"/tasks/{task_id}/kill").status_code == 200
    assert env.api.get(f"/tasks/{task_id}/metadata").json() == {"a": "b"}
    assert len(env.api.get(f"/compute/group/{group['name']}").json()["machines"]) == 1
    env.api.delete("/compute/group", params={"machine_group_id": group["id"]})


@pytest.mark.conforms("7.26", "DELETE /compute/group")
def test_what_the_published_client_gets_wrong_is_taken(env: Env) -> None:
    # It terminates twice: the second time is a refusal that it can show.
    group = env.api.post("/compute/group", json={"machine_type": "local"}).json()
    query = {"machine_group_id": group["id"]}
    assert env.api.delete("/compute/group", params=query).status_code == 202
    until(
        lambda: env.api.get(f"/compute/group/{group['name']}").json()["status"] == "terminated",
        what="the group to be terminated",
    )
    again = env.api.delete("/compute/group", params=query)
    assert (again.status_code, bool(again.json()["detail"])) == (409, True)
    # It decodes an event twice.
    task_id = env.submit("sleep 600")
    event = env.api.post(
        "/events/",
        json={
            "trigger": {"trigger_type": "task", "task_id": task_id, "trigger": "task_failed"},
            "action": {"action_type": "webhook", "webhook_url": "http://127.0.0.1:9/"},
        },
    ).json()
    told = env.api.get(f"/events/{event['event_id']}").json()
    assert json.loads(told)["event_id"] == event["event_id"]
    env.api.delete(f"/events/{event['event_id']}")
    env.api.post(f"/tasks/{task_id}/kill")
    # It names folders inside a zip without the slash between.
    query = {"operation": "upload", "paths": "rules/output.zip"}
    (url,) = env.api.get("/storage/signed-urls", params=query).json()
    archive = zipped({"sub/b.txt": "second"}, "artifacts/")
    assert httpx.put(url, content=archive, trust_env=False, timeout=60).status_code == 200
    query = {"path": "rules/output.zip", "zip_relative_path": "artifactssub", "filename": "b.txt"}
    assert env.api.get("/storage/zip-file-range", params=query).status_code == 200
    env.api.delete("/storage/", params={"path": "rules"})
