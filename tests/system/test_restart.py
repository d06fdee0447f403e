"""Promise 7: SIGKILL of the agent at every stage; the next agent goes on where it was."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from simherd.config import Connection
from simherd.follow import Follow
from simherd.http import Api
from tests.support.docker import containers, label
from tests.support.waits import until

if TYPE_CHECKING:
    from tests.support.env import Env

pytestmark = [pytest.mark.docker, pytest.mark.slow]

#: Counts in its log and in a file, until it is let go.
_COUNTING = (
    "sh -c 'n=0; while [ ! -e gate ]; do n=$((n+1)); echo $n; sleep 0.01; done; echo $n > n.txt'"
)


def _wait_for_more(log: Path) -> None:
    size = log.stat().st_size
    until(lambda: log.stat().st_size > size, what="more output, without an agent")


def _journal(env: Env, task_id: str, word: str) -> bool:
    """Whether the agent's journal of a task has a word in it."""
    return any(
        word in path.read_text()
        for path in (env.data / "machines").glob(f"*/journal/{task_id}-1.jsonl")
    )


def _ended_well(env: Env, task_id: str) -> dict[str, Any]:
    task = env.wait(task_id)
    assert task["status"] == "success", task["error_detail"]
    assert task["num_retries"] == 0
    statuses = [h["status"] for h in task["status_history"]]
    assert len(statuses) == len(set(statuses)), f"something was reported twice: {statuses}"
    env.nothing_is_left()
    assert containers(task_id) == []
    return task


def test_a_running_container_goes_on_and_its_log_has_no_gap(docker: Env) -> None:
    task_id = docker.submit(_COUNTING, "sh -c 'cat n.txt'")
    docker.wait_for(task_id, "computation-started")
    (container,) = until(lambda: containers(task_id), what="the container")
    log = docker.work(task_id) / "stdout.txt"
    until(lambda: log.stat().st_size > 200, what="some output")
    for _ in range(2):
        agent = docker.part("agent")
        docker.kill_part("agent")
        _wait_for_more(log)
        docker.wait_for_another("agent", agent)
    assert containers(task_id) == [container]
    (log.parent / "gate").touch()
    _ended_well(docker, task_id)
    outputs = docker.outputs(task_id)
    count = int(outputs["n.txt"])
    lines = [x for x in outputs["stdout.txt"].decode().splitlines() if not x.startswith("#")]
    assert lines == [str(i + 1) for i in range(count)] + [str(count)]


def test_who_follows_sees_every_line_once_whatever_breaks_down(docker: Env) -> None:
    task_id = docker.submit(_COUNTING)
    follow = Follow(Api(Connection(docker.url, docker.key)), task_id, ("stdout.txt",), 1000)
    seen: list[str] = []

    def read() -> None:
        seen.extend(news.body["text"] for news in follow if news.kind == "text")

    reader = threading.Thread(target=read)
    reader.start()
    until(lambda: len(seen) > 3, what="some lines")
    for part in ("agent", "api", "redis"):
        process = docker.part(part)
        docker.kill_part(part)
        docker.wait_for_another(part, process)
        before = len(seen)
        until(lambda: len(seen) > before + 1, what=f"more lines after {part}")  # noqa: B023
    (docker.work(task_id) / "gate").touch()
    _ended_well(docker, task_id)
    reader.join(60)
    lines = [x for x in "".join(seen).splitlines() if not x.startswith("#")]
    assert lines == [str(i + 1) for i in range(len(lines))]
    assert lines[-1] == docker.outputs(task_id)["n.txt"].decode().strip()


def test_inputs_that_were_not_complete_are_fetched_again(docker: Env) -> None:
    agent = docker.part("agent")
    with docker.frozen("agent"):
        task_id = docker.submit("cat in.txt", files={"in.txt": "d\n"})
        with docker.frozen("api"):
            agent.resume()
            until(lambda: _journal(docker, task_id, "download_input"), what="the download to begin")
            docker.kill_part("agent")
    _ended_well(docker, task_id)
    assert docker.outputs(task_id)["stdout.txt"].endswith(b"d\n")


def test_an_upload_is_finished(docker: Env) -> None:
    task_id = docker.submit(_COUNTING, files={"in.txt": "d"})
    docker.wait_for(task_id, "computation-started")
    gate = docker.work(task_id) / "gate"
    with docker.frozen("api"):
        gate.touch()
        until(lambda: _journal(docker, task_id, "upload_output"), what="the upload to begin")
        docker.kill_part("agent")
    _ended_well(docker, task_id)
    outputs = docker.outputs(task_id)
    assert outputs["n.txt"]
    # What was an input is still known to be one.
    assert "in.txt" not in outputs


def test_an_end_that_was_not_recorded_is_told_again(docker: Env) -> None:
    task_id = docker.submit(_COUNTING)
    docker.wait_for(task_id, "computation-started")
    gate = docker.work(task_id) / "gate"
    with docker.frozen("recorder"):
        gate.touch()
        until(lambda: _journal(docker, task_id, '"finished"'), what="the end")
        docker.kill_part("agent")
    _ended_well(docker, task_id)


def test_a_kill_that_came_while_there_was_no_agent_is_carried_out(docker: Env) -> None:
    task_id = docker.submit(_COUNTING)
    docker.wait_for(task_id, "computation-started")
    until(lambda: containers(task_id), what="the container")
    with docker.frozen("worker"):
        docker.kill_part("agent")
        docker.api.post(f"/tasks/{task_id}/kill")
    assert docker.wait(task_id)["status"] == "killed"
    assert "stdout.txt" in docker.outputs(task_id)
    assert containers(task_id) == []


def test_a_deadline_is_kept_by_the_next_agent(docker: Env) -> None:
    task_id = docker.submit("sleep 600", time_to_live_seconds=20)
    docker.wait_for(task_id, "computation-started")
    (container,) = until(lambda: containers(task_id), what="the container")
    deadline = datetime.fromisoformat(docker.task(task_id)["deadline"]).timestamp()
    assert abs(float(label(container, "simherd.deadline")) - deadline) < 1
    docker.kill_part("agent")
    task = docker.wait(task_id)
    assert (task["status"], task["cause"]) == ("ttl-exceeded", "task_time_limit")
    assert task["num_retries"] == 0
    assert datetime.fromisoformat(task["deadline"]).timestamp() == deadline


def test_a_drained_agent_finishes_and_takes_nothing_more(docker: Env) -> None:
    task_id = docker.submit(_COUNTING)
    docker.wait_for(task_id, "computation-started")
    agent = docker.part("agent")
    with docker.frozen("worker"):
        agent.terminate()
        waiting = docker.submit("true")
        (docker.work(task_id) / "gate").touch()
        until(lambda: not agent.is_running() or agent.status() == "zombie", what="its end")
        assert docker.status(waiting) == "submitted"
    _ended_well(docker, task_id)
    _ended_well(docker, waiting)


def test_a_second_sigterm_hands_over(docker: Env) -> None:
    task_id = docker.submit(_COUNTING)
    docker.wait_for(task_id, "computation-started")
    (container,) = until(lambda: containers(task_id), what="the container")
    agent = docker.part("agent")
    log = Path(agent.cwd(), "agent.log")
    before = log.read_text().count("agent_draining")
    agent.terminate()
    until(lambda: log.read_text().count("agent_draining") > before, what="the draining")
    agent.terminate()
    docker.wait_for_another("agent", agent)
    assert containers(task_id) == [container]
    (docker.work(task_id) / "gate").touch()
    _ended_well(docker, task_id)


def test_a_simulation_outlives_simherd_up(docker: Env) -> None:
    task_id = docker.submit(_COUNTING)
    docker.wait_for(task_id, "computation-started")
    (container,) = until(lambda: containers(task_id), what="the container")
    assert docker.process is not None
    docker.process.kill()
    docker.process.wait()
    # Where the API was, because that is where the simulation's outputs go.
    docker.start(httpx.URL(docker.url).port or 0)
    assert containers(task_id) == [container]
    (docker.work(task_id) / "gate").touch()
    _ended_well(docker, task_id)
