"""SIGKILL of each process while a task runs: the task still ends well, and once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
import redis

from simherd import simulators, tasks
from tests.support.env import Env, redis_port
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

#: Waits for a file that the test makes, so that the fault falls into the computation.
_WAITING = "sh -c 'echo ran >> ran.txt; while [ ! -e {gate} ]; do sleep 0.05; done'"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Env]:
    made = Env(tmp_path_factory.mktemp("faults"), "--backend", "process", SIMHERD_SWEEP_S="1")
    made.start()
    yield made
    made.stop()


@pytest.mark.parametrize("part", ["api", "recorder", "worker", "redis"])
def test_a_part_that_is_killed_costs_no_attempt(own: Env, part: str) -> None:
    gate = own.folder / f"gate-{part}"
    task_id = own.submit(_WAITING.format(gate=gate))
    own.wait_for(task_id, "computation-started")
    own.kill_part(part)
    gate.touch()
    until(lambda: _answers(own), what=f"the API after {part} was killed")
    task = own.wait(task_id)
    assert task["status"] == "success"
    assert task["num_retries"] == 0
    assert own.outputs(task_id)["ran.txt"] == b"ran\n"
    # Nothing is stuck: the next task runs.
    assert own.wait(own.submit("true"))["status"] == "success"


def _answers(env: Env) -> bool:
    try:
        return env.api.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_killed_agent_costs_the_attempt_but_not_the_task(own: Env) -> None:
    gate = own.folder / "gate-agent"
    task_id = own.submit(_WAITING.format(gate=gate), resubmit_on_preemption=True)
    own.wait_for(task_id, "computation-started")
    own.kill_part("agent")
    until(lambda: own.task(task_id)["attempt"] == 2, what="the second attempt")
    gate.touch()
    task = own.wait(task_id)
    assert task["status"] == "success"
    assert task["num_retries"] == 1
    assert [h["status"] for h in task["status_history"]].count("success") == 1
    # The outputs are those of the second attempt alone.
    assert own.outputs(task_id)["ran.txt"] == b"ran\n"


def test_a_killed_agent_ends_a_task_that_is_not_to_be_resubmitted(own: Env) -> None:
    task_id = own.submit("sleep 600")
    own.wait_for(task_id, "computation-started")
    own.kill_part("agent")
    task = own.wait(task_id)
    assert task["status"] == "executer-terminated"
    assert task["error_detail"]
    # The simulation itself was stopped by the agent that came after.
    until(lambda: not own.processes("sleep 600"), what="the simulation to be stopped")


def test_a_redis_that_lost_everything_is_filled_again(own: Env) -> None:
    gate = own.folder / "gate-flush"
    running = own.submit(_WAITING.format(gate=gate))
    own.wait_for(running, "computation-started")
    waiting = own.submit("true")
    password = (own.data / "run" / "redis_password").read_text()
    redis.Redis(port=redis_port(own.data), password=password).flushall()
    gate.touch()
    assert own.wait(running)["status"] == "success"
    assert own.wait(running)["num_retries"] == 0
    assert own.wait(waiting)["status"] == "success"


def test_everything_is_there_after_stop_and_start(tmp_path_factory: pytest.TempPathFactory) -> None:
    env = Env(tmp_path_factory.mktemp("again"), "--backend", "process", SIMHERD_SWEEP_S="1").start()
    task_id = env.submit("sh -c 'echo kept > kept.txt'")
    assert env.wait(task_id)["status"] == "success"
    resubmitted = env.submit("sh -c 'test -e seen || exec sleep 600'", resubmit_on_preemption=True)
    env.wait_for(resubmitted, "computation-started")
    env.stop()
    env.start()
    try:
        listed = {t["task_id"] for t in env.api.get("/tasks").json()["tasks"]}
        assert {task_id, resubmitted} <= listed
        assert env.outputs(task_id)["kept.txt"] == b"kept\n"
        until(lambda: env.task(resubmitted)["attempt"] == 2, what="the second attempt")
        env.api.post(f"/tasks/{resubmitted}/kill")
        assert env.wait(resubmitted)["status"] == "killed"
    finally:
        env.stop()


def test_a_program_goes_on_over_a_restart_of_the_api(
    own: Env, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SIMHERD_API_URL", own.url)
    monkeypatch.setenv("SIMHERD_API_KEY", own.key)
    monkeypatch.chdir(tmp_path)
    assert tasks.get(1) is not None
    own.kill_part("api")
    task = simulators.CustomImage("any").run(commands=["true"])
    own.kill_part("api")
    assert task.wait(silent_mode=True) == "success"
