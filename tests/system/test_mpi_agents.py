"""MPI groups whose agents break down: machines that are agents on this host, three of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest
import redis

from tests.support.env import Env, redis_port
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


#: Leaves notes of its own: for a look around, for what outlives it, for a host that there is not.
_NOTES = r"""
leave() { printf '%s\n%s\n' "$2" "$3" > /simherd/new; mv /simherd/new "/simherd/$1.note"; }
answer() { until [ -f "/simherd/$1.code" ]; do sleep 0.1; done; cat "/simherd/$1.code"; }
leave 901 host1 'exit $(id -u | cut -c 5)$(grep -Ec "CapBnd:.0{16}|NewPrivs:.1" /proc/self/status)'
leave 902 host2 'sleep 600'
leave 903 host9 true
ln -s /etc/passwd /simherd/904.note
echo looked $(answer 901) nowhere $(answer 903)
"""


@pytest.fixture(scope="module")
def own(openmpi_image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Env]:
    made = Env(
        tmp_path_factory.mktemp("agents"),
        "--backend",
        "docker",
        SIMHERD_SWEEP_S="1",
        SIMHERD_GRACE_S="6",
    )
    made.start()
    made.start_group(GROUP, type="mpi", num_vms=3, provider="local", max_idle_time=None)
    yield made
    terminate(made)
    made.stop()


def _agent(own: Env, machine: str) -> psutil.Process:
    return psutil.Process(int((own.data / "machines" / machine / "agent.pid").read_text()))


def test_three_machines(own: Env) -> None:
    task_id = submit(own, mpi("mpi-pi 100000", np=3, **{"map-by": "node"}))
    task = own.wait(task_id, timeout_s=120)
    assert task["status"] == "success", task["error_detail"]
    said = own.outputs(task_id)["stdout.txt"].decode()
    assert [f"rank {n} of 3 on host{n}" in said for n in range(3)] == [True] * 3
    nothing_is_left(own, task_id)


def test_what_is_asked_for_beside_mpirun_runs_locked_up_and_ends_with_it(own: Env) -> None:
    task_id = submit(own, mpi("sh notes.sh", np=1), files={"notes.sh": _NOTES})
    task = own.wait(task_id)
    assert task["status"] == "success", task["error_detail"]
    # User 10001, no capabilities and no new privileges.
    assert b"looked 12 nowhere 68" in own.outputs(task_id)["stdout.txt"]
    nothing_is_left(own, task_id)


def test_an_agent_that_leads_may_break_down(own: Env) -> None:
    task_id = submit(own, mpi("mpi-pi 1000 15"))
    machines = wait_for_machines(task_id, 3)
    own.wait_for(task_id, "computation-started")
    _agent(own, machines[0]).kill()
    task = own.wait(task_id, timeout_s=120)
    assert (task["status"], task["num_retries"]) == ("success", 0), task["error_detail"]
    assert "rank 5 of 6 on host2" in own.outputs(task_id)["stdout.txt"].decode()
    nothing_is_left(own, task_id)


def test_an_agent_of_another_member_takes_the_attempt_with_it(own: Env) -> None:
    task_id = submit(own, mpi("mpi-pi 1000 12"), resubmit_on_preemption=True)
    machines = wait_for_machines(task_id, 3)
    own.wait_for(task_id, "computation-started")
    _agent(own, machines[1]).kill()
    until(lambda: own.task(task_id)["attempt"] == 2, timeout_s=2 * SECONDS, what="attempt 2")
    task = own.wait(task_id, timeout_s=120)
    assert (task["status"], task["num_retries"]) == ("success", 1), task["error_detail"]
    assert "lost" in task["losses"][0]["detail"] or "started again" in task["losses"][0]["detail"]
    nothing_is_left(own, task_id)


def test_an_agent_that_is_silent_ends_it(own: Env) -> None:
    task_id = submit(own, mpi("mpi-pi 1000 600"))
    machines = wait_for_machines(task_id, 3)
    own.wait_for(task_id, "computation-started")
    frozen = _agent(own, machines[2])
    frozen.suspend()
    try:
        task = own.wait(task_id)
    finally:
        frozen.resume()
    assert task["cause"] == "machine_lost"
    assert "of the MPI group was lost" in task["error_detail"]
    nothing_is_left(own, task_id)


def test_a_redis_that_lost_everything_costs_nothing(own: Env) -> None:
    task_id = submit(own, mpi("mpi-pi 1000 15"))
    wait_for_machines(task_id, 3)
    own.wait_for(task_id, "computation-started")
    password = (own.data / "run" / "redis_password").read_text()
    redis.Redis(port=redis_port(own.data), password=password).flushall()
    task = own.wait(task_id, timeout_s=120)
    assert (task["status"], task["num_retries"]) == ("success", 0), task["error_detail"]
    nothing_is_left(own, task_id)
