"""A task's way through the whole system, as its user sees it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.waits import until

if TYPE_CHECKING:
    from tests.support.env import Env


def test_a_task_runs_its_commands_in_order_and_returns_what_changed(env: Env) -> None:
    task_id = env.submit(
        "cp in.txt out.txt",
        {"cmd": "sh -c 'echo $GREETING; echo oops >&2'", "env": {"GREETING": "hello"}},
        {"cmd": "cat", "prompts": ["first", "second"]},
        files={"in.txt": "data"},
    )
    task = env.wait(task_id)
    assert task["status"] == "success"
    outputs = env.outputs(task_id)
    # The unchanged input is no output.
    assert set(outputs) == {"out.txt", "stdout.txt", "stderr.txt", "system_metrics.csv"}
    assert outputs["out.txt"] == b"data"
    stdout = outputs["stdout.txt"].decode()
    assert stdout.index("hello") < stdout.index("first") < stdout.index("second")
    assert "oops" in outputs["stderr.txt"].decode()
    assert [h["status"] for h in task["status_history"]] == [
        "pending-input",
        "submitted",
        "started",
        "computation-started",
        "computation-ended",
        "success",
    ]
    operations = [o for h in task["status_history"] for o in h["operations"]]
    assert all(o["status"] == "OK" and o["end_timestamp"] for o in operations)
    assert [o["attributes"]["exit_code"] for o in operations if o["name"] == "exec_command"] == [
        0,
        0,
        0,
    ]
    assert task["metrics"]["output_total_files"] == 4
    assert task["executer"]["vm_type"] == "local"


def test_the_first_failing_command_ends_the_task(env: Env) -> None:
    task_id = env.submit("sh -c 'echo kept > kept.txt; exit 3'", "touch never.txt")
    task = env.wait(task_id)
    assert task["status"] == "failed"
    assert task["exit_code"] == 3
    assert "exit code 3" in task["error_detail"]
    assert set(env.outputs(task_id)) == {
        "kept.txt",
        "stdout.txt",
        "stderr.txt",
        "system_metrics.csv",
    }


def test_a_command_that_crashes_fails_with_the_signals_name(env: Env) -> None:
    task = env.wait(env.submit("sh -c 'kill -SEGV $$'"))
    assert (task["status"], task["exit_code"]) == ("failed", 139)
    assert "exit code 139 (SIGSEGV)" in task["error_detail"]


def test_a_command_that_is_not_there_fails_with_its_name(env: Env) -> None:
    task = env.wait(env.submit("no-such-program --now"))
    assert task["status"] == "failed"
    assert task["exit_code"] == 127
    assert "no-such-program" in task["error_detail"]


def test_a_log_that_was_replaced_is_neither_followed_nor_waited_for(env: Env) -> None:
    secret = env.folder / "secret.txt"
    secret.write_text("untouched")
    task_id = env.submit(
        f"sh -c 'rm stdout.txt stderr.txt; mkfifo stdout.txt; ln -s {secret} stderr.txt'",
        "sh -c 'echo said; echo oops >&2'",
        "true",
    )
    assert env.wait(task_id)["is_terminated"]
    assert secret.read_text() == "untouched"


def test_simulations_get_no_secret_of_ours(env: Env) -> None:
    task_id = env.submit("env", {"cmd": "env", "env": {"OWN": "mine"}})
    env.wait(task_id)
    stdout = env.outputs(task_id)["stdout.txt"].decode()
    assert "OWN=mine" in stdout
    for secret in (env.key, "redis://", "API_KEY", "SIGNING", "signature="):
        assert secret not in stdout


def test_arguments_are_never_given_to_a_shell(env: Env) -> None:
    task_id = env.submit("echo '; touch broken' '$(touch broken)' -n")
    assert env.wait(task_id)["status"] == "success"
    assert set(env.outputs(task_id)) == {"stdout.txt", "stderr.txt", "system_metrics.csv"}


def test_an_empty_input_is_an_empty_folder(env: Env) -> None:
    task_id = env.submit("ls", archive=b"PK\5\6" + b"\0" * 18)
    assert env.wait(task_id)["status"] == "success"


@pytest.mark.conforms("POST /tasks/{task_id}/kill")
def test_a_running_task_is_killed_and_keeps_its_outputs(env: Env) -> None:
    task_id = env.submit("sh -c 'echo begun > begun.txt; exec sleep 600'")
    env.wait_for_file(task_id, "begun.txt")
    assert env.api.post(f"/tasks/{task_id}/kill").status_code == 200
    task = env.wait(task_id)
    assert task["status"] == "killed"
    assert "begun.txt" in env.outputs(task_id)
    # Killing it again is no error and changes nothing.
    assert env.api.post(f"/tasks/{task_id}/kill").json()["status"] == "killed"


def test_a_queued_task_is_killed_without_a_machine(env: Env) -> None:
    registered = env.api.post("/compute/group", json={"machine_type": "local", "name": "idle"})
    assert registered.status_code == 201
    task_id = env.submit("true", group="idle")
    assert env.api.get(f"/tasks/{task_id}/status").json()["position_in_queue"] == {"tasks_ahead": 0}
    assert env.api.post(f"/tasks/{task_id}/kill").json()["status"] == "killed"
    second = env.submit("true", group="idle")
    assert env.api.delete(
        "/compute/group", params={"machine_group_id": registered.json()["id"]}
    ).is_success
    task = env.wait(second)
    assert task["status"] == "zombie"
    assert task["status_alias"] == "Machine Terminated in Queue"


def test_a_task_waiting_for_input_can_be_killed(env: Env) -> None:
    group = env.api.get("/compute/group/local").json()["id"]
    body = {
        "simulator": "arbitrary_commands",
        "resource_pool": group,
        "container_image": "x",
        "extra_params": {"commands": ["true"]},
    }
    task_id = env.api.post("/tasks/submit", json=body).json()["id"]
    assert env.api.post(f"/tasks/{task_id}/kill").json()["status"] == "killed"


def test_a_task_that_outlives_its_time_is_stopped(env: Env) -> None:
    task_id = env.submit("sh -c 'echo begun; exec sleep 600'", time_to_live_seconds=5)
    task = env.wait(task_id)
    assert task["status"] == "ttl-exceeded"
    assert b"begun" in env.outputs(task_id)["stdout.txt"]


@pytest.mark.conforms("POST /compute/group", "POST /compute/group/start", "DELETE /compute/group")
def test_terminating_a_group_ends_its_running_tasks(env: Env) -> None:
    group = env.api.post("/compute/group", json={"machine_type": "local", "name": "short"}).json()
    env.api.post("/compute/group/start", params={"machine_group_id": group["id"]})
    task_id = env.submit("sleep 600", group="short")
    env.wait_for(task_id, "computation-started")
    assert (
        env.api.delete("/compute/group", params={"machine_group_id": group["id"]}).status_code
        == 202
    )
    assert env.wait(task_id)["status"] == "executer-terminated-by-user"
    until(
        lambda: env.api.get("/compute/group/short").json()["status"] == "terminated",
        what="the group to be terminated",
    )
    again = env.api.delete("/compute/group", params={"machine_group_id": group["id"]})
    assert again.status_code == 409
    assert again.json()["detail"]


def test_a_group_ends_at_its_time_limit(env: Env) -> None:
    # A group that was never started has its limit too.
    limit = (datetime.now(UTC) + timedelta(seconds=10)).isoformat()
    body = {"machine_type": "local", "name": "limited", "auto_terminate_ts": limit}
    assert env.api.post("/compute/group", json=body).status_code == 201
    task_id = env.submit("true", group="limited")
    assert env.wait(task_id)["status"] == "zombie"
    until(
        lambda: env.api.get("/compute/group/limited").json()["status"] == "terminated",
        what="the group to be terminated",
    )


@pytest.mark.conforms("PUT /tasks/{task_id}/metadata", "GET /tasks/{task_id}/metadata")
def test_metadata_is_replaced_as_a_whole(env: Env) -> None:
    task_id = env.submit("true")
    env.api.put(f"/tasks/{task_id}/metadata", json={"study": "one", "run": "1"})
    env.api.put(f"/tasks/{task_id}/metadata", json={"study": "two"})
    assert env.api.get(f"/tasks/{task_id}/metadata").json() == {"study": "two"}
    assert env.api.put(f"/tasks/{task_id}/metadata", json={"": "x"}).status_code == 422


@pytest.mark.conforms("7.18", "DELETE /storage/")
def test_a_tasks_files_can_be_removed_wherever_they_lie(env: Env) -> None:
    task_id = env.submit("true", storage_path_prefix="studies/one")
    env.wait(task_id)
    path = env.task(task_id)["storage_output_path"]
    assert path.startswith("studies/one/")
    assert env.api.delete("/storage/", params={"path": f"{task_id}/"}).status_code == 200
    gone = env.api.get("/storage/signed-urls", params={"operation": "download", "paths": path})
    assert gone.status_code == 404
    assert env.api.delete("/storage/", params={"path": f"{task_id}/"}).status_code == 404
