"""A kill stops the task in whatever it is doing, and says how long that took."""

from __future__ import annotations

import io
import os
import socket
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.env import Env

#: Writes a file, and takes no notice of being asked to stop.
_STUBBORN = "sh -c 'trap \"\" TERM; echo begun > begun.txt; while :; do sleep 0.05; done'"
#: Shorter than the 30 s that a simulation has by default to stop by itself.
_SOON_S = 20


def test_outputs_are_discarded_where_nobody_wants_them(env: Env) -> None:
    task_id = env.submit("sh -c 'echo begun > begun.txt; exec sleep 600'")
    env.wait_for(task_id, "computation-started")
    done = env.cli("tasks", "kill", "-y", "--discard", "--wait-timeout", "30", task_id)
    assert done.returncode == 0, done.stderr
    assert env.status(task_id) == "killed"
    path = env.task(task_id)["storage_output_path"]
    query = {"operation": "download", "paths": path}
    assert env.api.get("/storage/signed-urls", params=query).status_code == 404
    env.nothing_is_left()


def test_the_history_says_how_long_it_took(env: Env) -> None:
    task_id = env.submit("sleep 600")
    env.wait_for(task_id, "computation-started")
    env.api.post(f"/tasks/{task_id}/kill")
    last = env.wait(task_id)["status_history"][-1]
    assert last["status"] == "killed"
    assert "s after that." in last["description"]


def test_a_task_says_how_long_it_may_take_to_stop(env: Env) -> None:
    task_id = env.submit(_STUBBORN, more={"stop_grace_s": 0.2})
    env.wait_for_file(task_id, "begun.txt")
    env.api.post(f"/tasks/{task_id}/kill")
    assert env.wait(task_id, timeout_s=_SOON_S)["status"] == "killed"
    assert "begun.txt" in env.outputs(task_id)


@pytest.fixture
def silent_registry() -> Iterator[str]:
    """A registry that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.docker
@pytest.mark.slow
def test_an_image_pull_does_not_hold_up_a_kill(docker: Env, silent_registry: str) -> None:
    task_id = docker.submit("true", container_image=f"docker://{silent_registry}/x:1")
    until(lambda: _pulls(docker, task_id) == ["RUNNING"], what="the pull")
    docker.api.post(f"/tasks/{task_id}/kill")
    assert docker.wait(task_id, timeout_s=_SOON_S)["status"] == "killed"
    assert _pulls(docker, task_id) == ["FAILED"]
    # The slot is free again.
    assert docker.wait(docker.submit("true"))["status"] == "success"


def _pulls(env: Env, task_id: str) -> list[str]:
    return _states(env, task_id, "download_container")


def _states(env: Env, task_id: str, operation: str) -> list[str]:
    history = env.task(task_id)["status_history"]
    operations = [o for h in history for o in h["operations"]]
    return [o["status"] for o in operations if o["name"] == operation]


@pytest.fixture(scope="module")
def large_input() -> bytes:
    """An input that takes a while to fetch and to unpack."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(2):
            archive.writestr(f"sim_dir/{number}", os.urandom(1024**2) * 300)
    return buffer.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["download_input", "uncompress_input"])
def test_a_kill_interrupts_the_fetching_of_inputs(env: Env, large_input: bytes, stage: str) -> None:
    task_id = env.submit("true", archive=large_input)
    until(lambda: _states(env, task_id, stage) == ["RUNNING"], what=stage)
    env.api.post(f"/tasks/{task_id}/kill")
    assert env.wait(task_id, timeout_s=_SOON_S)["status"] == "killed"
    # It did not come to its end.
    assert _states(env, task_id, stage) == ["FAILED"]
    env.nothing_is_left()
