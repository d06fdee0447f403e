"""MPI groups: several machines work on one task, all of them or none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.docker import containers, label
from tests.support.env import Env
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(300)]

REPOSITORY = Path(__file__).parents[2]
IMAGE = "docker://simherd/openmpi:local"
GROUP = "together"
#: Seconds within which all of an attempt is gone, once one of its machines is.
SECONDS = 15


@pytest.fixture(scope="module")
def openmpi_image(docker_engine: None) -> None:
    subprocess.run([REPOSITORY / "deploy/images/openmpi/build.sh"], check=True)


@pytest.fixture(scope="module")
def own(
    machine_image: str, openmpi_image: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Env]:
    folder = tmp_path_factory.mktemp("mpi")
    made = Env(
        folder,
        "--backend",
        "process",
        SIMHERD_SWEEP_S="1",
        SIMHERD_DOCKER_IMAGE=machine_image,
        SIMHERD_DOCKER_DEPLOYMENT=folder.name + str(os.getpid()),
    )
    made.start()
    made.start_group(GROUP, type="mpi", num_vms=2, provider="docker", max_idle_time=None)
    yield made
    terminate(made)
    made.stop()


def terminate(env: Env) -> None:
    group = env.api.get(f"/compute/group/{GROUP}").json()
    env.api.delete("/compute/group", params={"machine_group_id": group["id"]})
    until(
        lambda: env.api.get(f"/compute/group/{GROUP}").json()["status"] == "terminated",
        what="the group's end",
    )


def mpi(cmd: str, **options: Any) -> dict[str, Any]:
    return {"cmd": cmd, "mpi_config": {"version": "4.1.4", "options": options}}


def submit(own: Env, *commands: str | dict[str, Any], **more: Any) -> str:
    return own.submit(*commands, group=GROUP, container_image=IMAGE, **more)


def machines_of(task_id: str) -> set[str]:
    """The machines on which containers of a task are."""
    return {label(c, "simherd.executor") for c in containers(task_id)}


def networks() -> list[str]:
    argv = ["docker", "network", "ls", "-q", "--filter", "label=simherd.network"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()


def nothing_is_left(task_id: str) -> None:
    until(lambda: not containers(task_id), timeout_s=SECONDS, what="no container")
    until(lambda: not networks(), timeout_s=SECONDS, what="no network")


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
    nothing_is_left(task_id)
