"""Promise 11: what a task uses is measured in its own container, kept, and sent on."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waits import until

if TYPE_CHECKING:
    from tests.support.env import Env

pytestmark = [pytest.mark.docker, pytest.mark.slow]

MIB = 1024**2


def _series(env: Env, task_id: str) -> list[dict[str, float]]:
    text = env.outputs(task_id)["system_metrics.csv"].decode()
    return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(io.StringIO(text))]


def _stalls(env: Env, task_id: str) -> list[dict[str, Any]]:
    history = env.task(task_id)["status_history"]
    return [o for h in history for o in h["operations"] if o["name"] == "stall"]


def test_the_series_is_the_containers_own(docker: Env) -> None:
    busy = (
        'sh -c \'head -c 30M /dev/zero > f; x=$(head -c 20000000 /dev/zero | tr "\\0" x);'
        " end=$(($(date +%s)+5)); while [ $(date +%s) -lt $end ]; do :; done'"
    )
    task_id = docker.submit(busy)
    task = docker.wait(task_id)
    assert task["status"] == "success", task["error_detail"]
    rows = _series(docker, task_id)
    assert len(rows) >= 3
    assert [r["time_s"] for r in rows] == sorted(r["time_s"] for r in rows)
    # One core at the most, for a few seconds; the machine as a whole did far more since it began.
    assert 0.3 < rows[-1]["cpu_seconds"] < 20
    assert 10 * MIB < max(r["memory_bytes"] for r in rows) < 200 * MIB
    assert max(r["disk_bytes"] for r in rows) > 30 * MIB
    metrics = task["metrics"]
    assert metrics["peak_memory_bytes"] >= max(r["memory_bytes"] for r in rows)
    assert metrics["peak_disk_bytes"] > 30 * MIB
    assert metrics["peak_processes"] >= 1
    assert metrics["cpu_seconds"] >= rows[-1]["cpu_seconds"]
    assert "At the most: memory" in docker.cli("tasks", "info", task_id).stdout


def test_the_scheduler_has_it_while_the_task_runs(docker: Env) -> None:
    task_id = docker.submit("sleep 600")
    docker.wait_for(task_id, "computation-started")
    url = f"/v1/tasks/{task_id}/usage"
    (sample,) = until(lambda: docker.api.get(url).json(), what="a sample")
    assert sample["memory_bytes"] >= 0
    done = docker.cli("tasks", "usage", task_id)
    assert done.returncode == 0, done.stderr
    assert "MEMORY" in done.stdout
    docker.api.post(f"/tasks/{task_id}/kill")
    docker.wait(task_id)


def test_what_stands_still_is_told_and_so_is_that_it_goes_on(docker: Env) -> None:
    quiet = "sh -c 'while [ ! -e gate ]; do sleep 0.2; done; echo on; sleep 600'"
    still = "sh -c 'mkfifo gate; sleep 4; echo on; read _ < gate; rm gate'"
    task_id = docker.submit(still, more={"stall_after_s": 1})
    busy = docker.submit(quiet, more={"stall_after_s": 0})
    # Before the line of output, and after it.
    until(lambda: len(_stalls(docker, task_id)) == 2, what="the second stall")
    docker.wait_for_file(task_id, "gate").write_text("go\n")
    assert docker.wait(task_id)["status"] == "success"
    stalls = _stalls(docker, task_id)
    assert [s["status"] for s in stalls] == ["OK", "OK"]
    assert stalls[0]["attributes"]["quiet_seconds"] >= 1
    docker.wait_for(busy, "computation-started")
    docker.api.post(f"/tasks/{busy}/kill")
    docker.wait(busy)
    assert _stalls(docker, busy) == []
