"""Promise 8: a machine that is cut off goes on working, and stops before its task is another's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from simherd.contract import limits
from tests.support.env import Env, redis_port
from tests.support.proxy import Proxy
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psutil

pytestmark = pytest.mark.slow

#: The shortest that a group can have.
_WINDOW_S = 30
_GATED = "sh -c 'echo ran >> ran.txt; while [ ! -e {gate} ]; do sleep 0.05; done'"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cut")


@pytest.fixture(scope="module")
def network(folder: Path) -> Iterator[Proxy]:
    """What lies between the machines and Redis."""
    made = Proxy(lambda: ("127.0.0.1", redis_port(folder / "data")))
    yield made
    made.close()


@pytest.fixture(scope="module")
def own(network: Proxy, folder: Path) -> Iterator[Env]:
    """A Simherd whose machines reach Redis over that network."""
    run = folder / "data" / "run"
    run.mkdir(parents=True, mode=0o700)
    (run / "redis_password").write_text("known")
    url = f"redis://:known@127.0.0.1:{network.port}/0"
    made = Env(folder, "--backend", "process", SIMHERD_SWEEP_S="1", SIMHERD_MACHINES_REDIS_URL=url)
    made.start()
    made.start_group("far", reconnect_s=_WINDOW_S, max_idle_time=None)
    yield made
    network.heal()
    made.stop()


def _silent_s(env: Env) -> float:
    return env.silent_for("far")


def _simulation(env: Env, gate: object) -> list[psutil.Process]:
    return env.processes(str(gate))


def test_a_cut_that_ends_in_time_costs_nothing(own: Env, network: Proxy) -> None:
    gate = own.folder / "short"
    task_id = own.submit(_GATED.format(gate=gate), group="far", resubmit_on_preemption=True)
    own.wait_for(task_id, "computation-started")
    before = until(lambda: _simulation(own, gate), what="the simulation")[0]
    network.cut()
    until(lambda: _silent_s(own) > limits.LEASE_S + 1, what="the lease to run out")
    assert own.status(task_id) == "computation-started"
    network.heal()
    until(lambda: _silent_s(own) < limits.HEARTBEAT_S, what="the machine to be back")
    assert before.is_running()
    gate.touch()
    task = own.wait(task_id)
    assert (task["status"], task["num_retries"]) == ("success", 0)


def test_a_machine_that_is_cut_off_stops_before_its_task_is_given_away(
    own: Env, network: Proxy
) -> None:
    gate = own.folder / "long"
    task_id = own.submit(_GATED.format(gate=gate), group="far", resubmit_on_preemption=True)
    until(lambda: _simulation(own, gate), what="the simulation")
    network.cut()
    until(lambda: not _simulation(own, gate), what="the machine to stop its work")
    assert own.task(task_id)["attempt"] == 1
    assert _silent_s(own) < _WINDOW_S
    until(lambda: own.task(task_id)["attempt"] == 2, what="the next attempt")
    gate.touch()
    network.heal()
    task = own.wait(task_id)
    assert (task["status"], task["num_retries"]) == ("success", 1)
    assert own.outputs(task_id)["ran.txt"] == b"ran\n"
    assert own.stored(task_id, 1) == []


def test_a_machine_that_comes_back_too_late_uploads_nothing(own: Env) -> None:
    gate = own.folder / "late"
    task_id = own.submit(_GATED.format(gate=gate), group="far", resubmit_on_preemption=True)
    own.wait_for(task_id, "computation-started")
    first = until(lambda: _simulation(own, gate), what="the simulation")[0]
    agent = own.agent_of("far")
    agent.suspend()
    until(lambda: own.task(task_id)["attempt"] == 2, what="the next attempt")
    # Its simulation went on all the time.
    assert first.is_running()
    agent.resume()
    until(lambda: not first.is_running(), what="the first attempt to be stopped")
    gate.touch()
    task = own.wait(task_id)
    assert (task["status"], task["num_retries"]) == ("success", 1)
    assert own.stored(task_id, 1) == []
    assert own.outputs(task_id)["ran.txt"] == b"ran\n"
