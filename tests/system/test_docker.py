"""A task's way on machines with a Docker engine."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.env import Env
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture(scope="module")
def docker(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Env]:
    made = Env(tmp_path_factory.mktemp("docker"), "--backend", "docker", SIMHERD_SWEEP_S="1")
    made.start()
    yield made
    made.stop()


def containers(task_id: str) -> list[str]:
    """The ids of a task's containers, running or not."""
    done = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"label=simherd.task={task_id}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


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
    docker.wait_for(task_id, "computation-started")
    until(lambda: containers(task_id), what="the container")
    docker.api.post(f"/tasks/{task_id}/kill")
    assert docker.wait(task_id)["status"] == "killed"
    assert "begun.txt" in docker.outputs(task_id)
    assert containers(task_id) == []


def test_time_to_live_ends_a_container(docker: Env) -> None:
    task_id = docker.submit("sleep 600", time_to_live_seconds=1)
    assert docker.wait(task_id)["status"] == "ttl-exceeded"
    assert containers(task_id) == []


def test_a_killed_agents_container_does_not_go_on(docker: Env) -> None:
    task_id = docker.submit("sleep 600", resubmit_on_preemption=True)
    docker.wait_for(task_id, "computation-started")
    (first,) = until(lambda: containers(task_id), what="the container")
    docker.kill_part("agent")
    until(lambda: docker.task(task_id)["attempt"] == 2, what="the second attempt")
    until(lambda: first not in containers(task_id), what="the first container to be gone")
    docker.wait_for(task_id, "computation-started")
    docker.api.post(f"/tasks/{task_id}/kill")
    docker.wait(task_id)
    assert containers(task_id) == []
