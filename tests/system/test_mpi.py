"""MPI groups: several machines work on one task, all of them or none."""

from __future__ import annotations

import itertools
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.env import Env
from tests.support.mpi import (
    GROUP,
    SECONDS,
    mpi,
    nothing_is_left,
    submit,
    terminate,
    wait_for_machines,
)
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def own(
    machine_image: str, openmpi_image: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Env]:
    made = Env(
        tmp_path_factory.mktemp("mpi"),
        "--backend",
        "process",
        SIMHERD_SWEEP_S="1",
        SIMHERD_PROVIDERS="local,docker",
        SIMHERD_GRACE_S="6",
        SIMHERD_DOCKER_IMAGE=machine_image,
    )
    made.start()
    made.start_group(GROUP, type="mpi", num_vms=2, provider="docker", max_idle_time=None)
    yield made
    terminate(made)
    made.stop()


def lose(machine: str) -> None:
    """A machine goes, with all that runs on it."""
    argv = ["docker", "ps", "-q", "--filter", f"label=simherd.executor={machine}"]
    found = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    victims = [f"simherd-machine-{machine}", *found]
    subprocess.run(["docker", "kill", *victims], capture_output=True, check=True)


def test_ranks_run_on_all_machines_and_the_result_is_right(own: Env) -> None:
    task_id = submit(own, mpi("mpi-pi 1000000"), "cat in.txt", files={"in.txt": "input\n"})
    task = own.wait(task_id, timeout_s=120)
    assert task["status"] == "success", (task["error_detail"], own.outputs(task_id))
    outputs = own.outputs(task_id)
    said = outputs["stdout.txt"].decode()
    hosts = {line.rpartition(" ")[2] for line in said.splitlines() if line.startswith("rank ")}
    assert hosts == {"host0", "host1"}
    assert "pi 3.141592654" in said
    assert "input" in said
    assert outputs["pi.txt"] == b"3.141592654\n"
    assert task["executer"]["n_mpi_hosts"] == 2
    nothing_is_left(own, task_id)


def test_two_tasks_follow_one_another_and_one_without_mpi_runs_on_the_leader_alone(
    own: Env,
) -> None:
    first = submit(own, mpi("mpi-pi 1000 3"))
    second = submit(own, "hostname", mpi("mpi-pi 1000 1"))
    alone = submit(own, "sh -c 'ls /sys/class/net; ls /simherd || echo none'")
    tasks = [own.wait(task_id, timeout_s=120) for task_id in (first, second, alone)]
    assert [task["status"] for task in tasks] == ["success"] * 3
    for before, after in itertools.pairwise(tasks):
        assert before["computation_end_time"] <= after["computation_start_time"]
    said = own.outputs(alone)["stdout.txt"].decode().split("\n")
    assert said[-3:-1] == ["lo", "none"]


def test_a_command_that_fails_fails_the_task_and_not_its_machines(own: Env) -> None:
    task_id = submit(own, mpi("sh -c 'exit 3'"))
    task = own.wait(task_id, timeout_s=120)
    assert (task["status"], task["cause"]) == ("failed", "nonzero_exit"), task["error_detail"]


def test_a_kill_ends_it_on_all_machines(own: Env) -> None:
    task_id = submit(own, mpi("mpi-pi 1000 600"))
    wait_for_machines(task_id, 2)
    own.api.post(f"/tasks/{task_id}/kill")
    assert own.wait(task_id)["status"] == "killed"
    nothing_is_left(own, task_id)


@pytest.mark.parametrize("place", [0, 1], ids=["the leader", "another member"])
def test_a_lost_machine_ends_it_everywhere_and_it_is_run_again(own: Env, place: int) -> None:
    task_id = submit(own, mpi("mpi-pi 1000 20"), resubmit_on_preemption=True)
    machines = wait_for_machines(task_id, 2)
    own.wait_for(task_id, "computation-started")
    lose(machines[place])
    nothing_is_left(own, task_id)
    until(lambda: own.task(task_id)["attempt"] == 2, timeout_s=SECONDS, what="attempt 2")
    task = own.wait(task_id, timeout_s=120)
    assert (task["status"], task["num_retries"]) == ("success", 1), task["error_detail"]
    [loss] = task["losses"]
    assert "lost" in loss["detail"]
    assert machines[place] != task["executer"]["uuid"]


def test_a_notice_to_any_machine_hands_it_back(own: Env) -> None:
    script = "echo half > half.txt; exec sleep 600"
    task_id = submit(own, mpi(f"sh -c '{script}'", np=4))
    machines = wait_for_machines(task_id, 2)
    own.wait_for(task_id, "computation-started")
    folders = (own.data / "machines").glob
    until(lambda: len([*folders("*/attempts/*/work/half.txt")]) == 2, what="what they write")
    own.reclaim(machines[1], 20)
    task = own.wait(task_id)
    assert (task["status"], task["cause"]) == ("spot-instance-preempted", "spot_reclaimed")
    assert own.outputs(task_id)["half.txt"] == b"half\n"
    nothing_is_left(own, task_id)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"provider": "local", "num_vms": 2}, "one Docker engine"),
        ({"provider": "docker", "is_elastic": True, "min_vms": 1, "max_vms": 2}, "size is fixed"),
    ],
)
def test_a_group_that_cannot_work_together_is_refused(
    own: Env, fields: dict[str, Any], said: str
) -> None:
    made = own.api.post("/compute/group", json={"type": "mpi", **fields})
    assert made.status_code == 422
    assert said in made.json()["detail"]
