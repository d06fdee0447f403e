"""A task's way on machines with a Docker engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.docker import containers

if TYPE_CHECKING:
    from tests.support.env import Env

pytestmark = [pytest.mark.docker, pytest.mark.slow]


def test_commands_run_locked_up_and_leave_no_container(docker: Env) -> None:
    script = (
        "id -u; cat in.txt; touch /etc/x || echo read-only; "
        "grep -c : /proc/net/dev; ls /var/run/docker.sock || echo no-socket"
    )
    task_id = docker.submit(
        f"sh -c '{script}'", "sh -c 'cp in.txt out.txt'", files={"in.txt": "d\n"}
    )
    task = docker.wait(task_id)
    assert task["status"] == "success", task["error_detail"]
    outputs = docker.outputs(task_id)
    assert outputs["out.txt"] == b"d\n"
    lines = outputs["stdout.txt"].decode().splitlines()
    assert "0" not in lines  # nobody is root
    assert "read-only" in lines
    assert "no-socket" in lines
    assert "1" in lines  # the loopback interface is the only one
    docker.nothing_is_left()
    assert containers(task_id) == []


def test_an_image_that_does_not_exist_is_named(docker: Env) -> None:
    task_id = docker.submit("true", container_image="docker://simherd/no-such-image:1")
    task = docker.wait(task_id)
    assert task["status"] == "executer-failed"
    assert "simherd/no-such-image:1" in task["error_detail"]
    docker.nothing_is_left()
    assert containers(task_id) == []


def test_a_running_container_is_killed(docker: Env) -> None:
    task_id = docker.submit("sh -c 'echo begun > begun.txt; exec sleep 600'")
    docker.wait_for_file(task_id, "begun.txt")
    docker.api.post(f"/tasks/{task_id}/kill")
    assert docker.wait(task_id)["status"] == "killed"
    assert "begun.txt" in docker.outputs(task_id)
    assert containers(task_id) == []


def test_time_to_live_ends_a_container(docker: Env) -> None:
    task_id = docker.submit("sleep 600", time_to_live_seconds=1)
    assert docker.wait(task_id)["status"] == "ttl-exceeded"
    assert containers(task_id) == []
