"""The drill of docs/backup.md: database and Redis are lost while tasks run, and restored."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.docker import containers
from tests.support.env import Env
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.docker, pytest.mark.slow]

_WAIT = "sh -c 'while [ ! -e gate ]; do sleep 0.05; done; echo done >> out.txt'"


@pytest.fixture
def lost(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Env]:
    """A Simherd that loses its database."""
    options = ("--backend", "docker", "--slots", "2")
    made = Env(tmp_path_factory.mktemp("lost"), *options, SIMHERD_SWEEP_S="1", SIMHERD_GRACE_S="5")
    made.start()
    yield made
    made.stop()


def _gate(env: Env, task_id: str) -> Path:
    """The file for which a running task waits."""
    work = until(
        lambda: next((env.data / "machines").glob(f"*/attempts/{task_id}-*/work"), None),
        what="the work folder",
    )
    return work / "gate"


def _journals(env: Env) -> list[str]:
    """The attempts of which a machine keeps what it reported."""
    return [file.stem for file in (env.data / "machines").glob("*/journal/*.jsonl")]


def _lose_everything(env: Env) -> None:
    """The scheduler dies, its database and Redis' data are lost; what containers run goes on."""
    assert env.process is not None
    env.process.kill()
    env.process.wait()
    for name in ("worker", "recorder", "api", "redis"):
        os.killpg(env.part(name).pid, signal.SIGKILL)
    for file in env.data.glob("simherd.db*"):
        file.unlink()
    shutil.rmtree(env.data / "redis")


def _ended_well(env: Env, task_id: str, *, retries: int) -> int:
    """Wait for a task's success; return the number of its last attempt."""
    task = env.wait(task_id)
    assert task["status"] == "success", task["error_detail"]
    assert task["num_retries"] == retries
    history = [entry["status"] for entry in task["status_history"]]
    assert history.count("success") == 1
    assert env.outputs(task_id)["out.txt"] == b"done\n"
    return int(task["attempt"])


def test_what_was_known_at_the_backup_is_known_and_goes_on(lost: Env) -> None:
    ended = lost.submit(_WAIT, files={"gate": ""})
    _ended_well(lost, ended, retries=0)
    runs, finishes = lost.submit(_WAIT), lost.submit(_WAIT)
    for task_id in (runs, finishes):
        lost.wait_for(task_id, "computation-started")
    waits = lost.submit(_WAIT, files={"gate": ""})
    backup = lost.folder / "backup.zip"
    done = lost.cli("admin", "backup", str(backup))
    assert done.returncode == 0, done.stderr
    # What happens from here on is forgotten.
    key = lost.cli("admin", "keys", "create", "local").stdout.strip()
    _gate(lost, finishes).touch()
    for task_id in (finishes, waits):
        assert _ended_well(lost, task_id, retries=0) == 1
    # Until then the machine itself could still tell what became of them.
    until(lambda: _journals(lost) == [f"{runs}-1"], what="the machine to forget what has ended")
    unknown = lost.submit(_WAIT)
    lost.wait_for(unknown, "computation-started")
    (container,) = containers(runs)

    port = httpx.URL(lost.url).port
    assert port is not None
    _lose_everything(lost)
    assert containers(runs) == [container]
    restored = lost.command("admin", "restore", str(backup), "--data-dir", str(lost.data))
    assert restored.returncode == 0, restored.stderr
    assert "tasks go on" in restored.stdout
    lost.start(port)
    # Never beside a server that runs.
    again = lost.command("admin", "restore", str(backup), "--data-dir", str(lost.data))
    assert again.returncode == 1
    assert "Other processes are connected" in again.stderr

    assert lost.api.get("/users/info", headers={"X-API-Key": key}).status_code == 401
    assert lost.api.get(f"/tasks/{unknown}").status_code == 404
    until(lambda: containers(unknown) == [], what="the end of what no task asks for")
    # Nobody knows any more what became of these: they run again, under numbers of their own.
    first = _ended_well(lost, waits, retries=0)
    lost.wait_for(finishes, "computation-started")
    _gate(lost, finishes).touch()
    assert _ended_well(lost, finishes, retries=1) >= first > 1_000_000
    # This one was not touched by all that.
    assert containers(runs) == [container]
    _gate(lost, runs).touch()
    assert _ended_well(lost, runs, retries=0) == 1
    assert lost.outputs(ended)["out.txt"] == b"done\n"

    lost.nothing_is_left()
    found = lost.cli("admin", "doctor", "--storage")
    assert found.stdout == "All is well.\n"
    path = lost.task(ended)["storage_output_path"]
    next((lost.data / "storage").rglob(path)).unlink()
    found = lost.cli("admin", "doctor", "--storage")
    assert found.returncode == 1
    assert f"The outputs of task {ended} are not in the storage any more" in found.stdout
    assert "restore" in lost.cli("admin", "audit").stdout
