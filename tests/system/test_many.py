"""Hundreds of tasks on four slots: all succeed, each runs once, in the order of the queue."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.env import Env, zipped
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_TASKS = 500
_SLOTS = 4
#: Threads that talk to the API, and tasks that one of them takes at a time.
_THREADS, _BATCH = 4, 50
#: Seconds in which all of them must have run: several times what a machine with 2 cores needs.
_PATIENCE_S = 600
_PROJECT = "many"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Env]:
    made = Env(tmp_path, "--backend", "process", "--slots", str(_SLOTS))
    made.start()
    yield made
    made.stop()


def test_many_tasks_run_once_each_in_the_order_of_the_queue(own: Env) -> None:
    ran = own.folder / "ran.txt"
    group = own.api.post("/compute/group", json={"machine_type": "local", "name": "many"}).json()
    # No machine takes a task before all of them wait.
    _submit_all(own, group["id"], ran)
    queue = [_number(task) for task in _in_queue_order(own)]
    assert sorted(queue) == list(range(_TASKS))
    own.api.post(
        "/compute/group/start", params={"machine_group_id": group["id"]}
    ).raise_for_status()
    until(lambda: _lines(ran) >= _TASKS, timeout_s=_PATIENCE_S, what=f"{_TASKS} lines in {ran}")
    until(lambda: _overview(own) == {"success": _TASKS}, what="all tasks to be a success")

    order = [int(line) for line in ran.read_text().splitlines()]
    assert sorted(order) == list(range(_TASKS)), "a command ran twice, or never"
    _assert_in_order(order, queue)
    _assert_one_attempt_each(own)


def _submit_all(env: Env, group: str, ran: Path) -> None:
    """Submit tasks that write their number to `ran`, several at a time."""
    archive = zipped({})

    def some(first: int) -> None:
        ids = [_register(env, group, f"sh -c 'echo {n} >> {ran}'") for n in _batch(first)]
        paths = [f"{task_id}/input.zip" for task_id in ids]
        urls = env.api.get("/storage/signed-urls", params={"operation": "upload", "paths": paths})
        for task_id, url in zip(ids, urls.raise_for_status().json(), strict=True):
            env.api.put(url, content=archive).raise_for_status()
            env.api.post(f"/tasks/{task_id}/input_uploaded").raise_for_status()

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(some, range(0, _TASKS, _BATCH)))


def _batch(first: int) -> range:
    return range(first, min(first + _BATCH, _TASKS))


def _register(env: Env, group: str, command: str) -> str:
    body = {
        "simulator": "arbitrary_commands",
        "resource_pool": group,
        "container_image": "docker://simherd/debian:bookworm",
        "extra_params": {"commands": [{"cmd": command}]},
        "project": _PROJECT,
    }
    return str(env.api.post("/tasks/submit", json=body).raise_for_status().json()["id"])


def _in_queue_order(env: Env) -> list[dict[str, Any]]:
    """All waiting tasks, the first one first; the API says the same of a task by its place."""
    tasks = list(reversed(_listed(env)))
    assert {t["status"] for t in tasks} == {"submitted"}
    for ahead in [*range(0, len(tasks), 100), len(tasks) - 1]:
        found = env.api.get(f"/tasks/{tasks[ahead]['task_id']}/status").json()
        assert found["position_in_queue"] == {"tasks_ahead": ahead}
    return tasks


def _listed(env: Env) -> list[dict[str, Any]]:
    """All tasks as the list shows them: newest first."""
    size = 500
    tasks: list[dict[str, Any]] = []
    for page in range(1, _TASKS // size + 1):
        query: dict[str, str | int] = {"project": _PROJECT, "per_page": size, "page": page}
        tasks += env.api.get("/tasks", params=query).json()["tasks"]
    return tasks


def _number(task: dict[str, Any]) -> int:
    """The number that a task's command writes: `sh -c 'echo NUMBER >> FILE'`."""
    return int(task["extra_params"]["commands"][0]["cmd"].split()[3])


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _overview(env: Env) -> dict[str, int]:
    """How many tasks have which status."""
    counts: dict[str, int] = env.api.get(f"/projects/{_PROJECT}").json()["task_status_overview"]
    return {status: count for status, count in counts.items() if count}


def _assert_in_order(order: list[int], queue: list[int]) -> None:
    """No task ran before more earlier ones than the other slots can have been holding.

    The queue hands tasks out in order, and a slot takes one only when its last one is over. So
    when a command runs, whatever was ahead of it has run or is in another slot's hands: this
    holds however slots are delayed.
    """
    place = {number: at for at, number in enumerate(queue)}
    still_to_run = set(range(len(queue)))
    first = 0
    for number in order:
        at = place[number]
        still_to_run.remove(at)
        overtaken = [p for p in range(first, at) if p in still_to_run]
        assert len(overtaken) < _SLOTS, f"task {at} of the queue ran before {overtaken}"
        while first < len(queue) and first not in still_to_run:
            first += 1


def _assert_one_attempt_each(env: Env) -> None:
    """Every task's history shows one start and one end, both of the first attempt."""
    once = ["pending-input", "submitted", "started", "computation-started", "computation-ended"]

    def look(task: dict[str, Any]) -> None:
        found = env.task(task["task_id"])
        assert [h["status"] for h in found["status_history"]] == [*once, "success"], found
        assert found["attempt"] == 1, found
        commands = [
            o
            for h in found["status_history"]
            for o in h["operations"]
            if o["name"] == "exec_command"
        ]
        assert len(commands) == 1, found

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(look, _listed(env)))
