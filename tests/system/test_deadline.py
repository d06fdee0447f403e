"""Time-to-live is a deadline: warned of, moved, and kept over the loss of a machine."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from tests.support.env import Env
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Writes a file when it is warned, and goes on.
_CAREFUL = "sh -c 'trap \"echo saved > saved.txt\" {signal}; while :; do sleep 0.05; done'"
_GATED = "sh -c 'while [ ! -e {gate} ]; do sleep 0.05; done'"


def deadline(env: Env, task_id: str) -> float | None:
    found = env.task(task_id)["deadline"]
    return datetime.fromisoformat(found).timestamp() if found else None


@pytest.mark.slow
@pytest.mark.parametrize("signal", ["SIGUSR1", "SIGUSR2"])
def test_a_simulation_is_warned_in_time_to_save_something(env: Env, signal: str) -> None:
    extra = {"warn_before_s": 3.0} | ({} if signal == "SIGUSR1" else {"warn_signal": signal})
    command = _CAREFUL.format(signal=signal.removeprefix("SIG"))
    task_id = env.submit(command, time_to_live_seconds=6, more=extra)
    task = env.wait(task_id)
    assert task["status"] == "ttl-exceeded"
    assert env.outputs(task_id)["saved.txt"] == b"saved\n"


def test_what_does_not_handle_the_warning_is_not_ended_by_it(env: Env) -> None:
    task_id = env.submit("sleep 600", time_to_live_seconds=1)
    task = env.wait(task_id)
    assert (task["status"], task["cause"]) == ("ttl-exceeded", "task_time_limit")


@pytest.mark.slow
def test_a_running_task_is_extended(env: Env) -> None:
    gate = env.folder / "extended"
    task_id = env.submit(_GATED.format(gate=gate), time_to_live_seconds=4)
    first = until(lambda: deadline(env, task_id), what="the deadline")
    answer = env.api.post(f"/v1/tasks/{task_id}/extend", json={"seconds": 1800})
    assert answer.status_code == 200, answer.text
    done = env.cli("tasks", "extend", task_id, "30m")
    assert done.returncode == 0, done.stderr
    assert deadline(env, task_id) == pytest.approx(first + 3600, abs=0.01)
    until(lambda: time.time() > first + 0.5, what="the first deadline to pass")
    gate.touch()
    assert env.wait(task_id)["status"] == "success"


def test_a_waiting_task_is_extended(env: Env) -> None:
    registered = env.api.post("/compute/group", json={"machine_type": "local"}).json()
    task_id = env.submit("sleep 600", group=registered["name"], time_to_live_seconds=3000)
    answer = env.api.post(f"/v1/tasks/{task_id}/extend", json={"seconds": 600})
    assert answer.json()["time_to_live_seconds"] == 3600
    env.api.post("/compute/group/start", params={"machine_group_id": registered["id"]})
    env.wait_for(task_id, "computation-started")
    left = until(lambda: deadline(env, task_id)) - time.time()
    assert 3500 < left <= 3600
    env.api.delete("/compute/group", params={"machine_group_id": registered["id"]})
    env.wait(task_id)


@pytest.mark.parametrize("seconds", [0, -5, "soon", None, 1e12])
def test_an_extension_that_cannot_be_is_refused(env: Env, seconds: object) -> None:
    task_id = env.submit("sleep 600", time_to_live_seconds=600)
    answer = env.api.post(f"/v1/tasks/{task_id}/extend", json={"seconds": seconds})
    assert answer.status_code == 422
    assert "seconds" in answer.json()["detail"]
    env.api.post(f"/tasks/{task_id}/kill")
    env.wait(task_id)
    answer = env.api.post(f"/v1/tasks/{task_id}/extend", json={"seconds": 5})
    assert (answer.status_code, "Killed" in answer.json()["detail"]) == (409, True)


def test_a_task_without_a_time_to_live_has_nothing_to_extend(env: Env) -> None:
    task_id = env.submit("sleep 600")
    done = env.cli("tasks", "extend", task_id, "2h")
    env.api.post(f"/tasks/{task_id}/kill")
    assert done.returncode == 1
    assert "no time-to-live" in done.stderr


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Env]:
    made = Env(tmp_path_factory.mktemp("own"), "--backend", "process", SIMHERD_SWEEP_S="1")
    made.start()
    yield made
    made.stop()


@pytest.mark.slow
def test_the_deadline_outlives_the_machine(own: Env) -> None:
    task_id = own.submit("sleep 600", time_to_live_seconds=3000, resubmit_on_preemption=True)
    first = until(lambda: deadline(own, task_id), what="the deadline")
    until(lambda: own.processes("sleep 600"), what="the simulation")
    own.kill_part("agent")
    until(lambda: own.task(task_id)["attempt"] == 2, what="the second attempt")
    own.wait_for(task_id, "computation-started")
    assert deadline(own, task_id) == first
    own.api.post(f"/tasks/{task_id}/kill")
    own.wait(task_id)


@pytest.mark.docker
@pytest.mark.slow
def test_a_container_is_warned(docker: Env) -> None:
    command = _CAREFUL.format(signal="USR1")
    task_id = docker.submit(command, time_to_live_seconds=12, more={"warn_before_s": 6})
    assert docker.wait(task_id)["status"] == "ttl-exceeded"
    assert docker.outputs(task_id)["saved.txt"] == b"saved\n"
    unaware = docker.submit("sleep 600", time_to_live_seconds=1)
    assert docker.wait(unaware)["status"] == "ttl-exceeded"
