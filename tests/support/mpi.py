"""Tasks of MPI groups."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

from simherd.contract.join import network_name
from tests.support.docker import containers, label
from tests.support.waits import until

if TYPE_CHECKING:
    from tests.support.env import Env

IMAGE = "docker://simherd/openmpi:local"
GROUP = "together"
#: Seconds within which all of an attempt is gone, once one of its machines is.
SECONDS = 60


def terminate(env: Env) -> None:
    """Terminate the group, and wait for that."""
    group = env.api.get(f"/compute/group/{GROUP}").json()
    env.api.delete("/compute/group", params={"machine_group_id": group["id"]})
    until(
        lambda: env.api.get(f"/compute/group/{GROUP}").json()["status"] == "terminated",
        what="the group's end",
    )


def mpi(cmd: str, **options: Any) -> dict[str, Any]:
    """A command that is run as mpirun with these options."""
    return {"cmd": cmd, "mpi_config": {"version": "4.1.4", "options": options}}


def submit(env: Env, *commands: str | dict[str, Any], **more: Any) -> str:
    """Submit a task to the group."""
    return env.submit(*commands, group=GROUP, container_image=IMAGE, **more)


def machines_of(task_id: str) -> set[str]:
    """The machines on which containers of a task are."""
    return {label(c, "simherd.executor") for c in containers(task_id)}


def wait_for_machines(task_id: str, number: int) -> list[str]:
    """Wait until a task has containers on so many machines; return these."""
    what = f"containers on {number} machines"
    until(lambda: len(machines_of(task_id)) == number, timeout_s=90, what=what)
    return sorted(machines_of(task_id))


def nothing_is_left(env: Env, task_id: str) -> None:
    """Wait until no container and no network of the group is there any more."""
    until(lambda: not containers(task_id), timeout_s=SECONDS, what="no container")
    group = str(env.api.get(f"/compute/group/{GROUP}").json()["id"])
    until(lambda: not _networks(group), timeout_s=SECONDS, what="no network")


def _networks(group: str) -> list[str]:
    name = f"label=simherd.network={network_name(group)}"
    argv = ["docker", "network", "ls", "-q", "--filter", name]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
