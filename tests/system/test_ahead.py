"""Promise 10: while one task computes, what the next one needs is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.env import Env
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

_GATED = "sh -c 'while [ ! -e {gate} ]; do sleep 0.05; done'"
MIB = 1024**2


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Env]:
    """One machine with one slot."""
    made = Env(tmp_path_factory.mktemp("ahead"), "--backend", "process", SIMHERD_SWEEP_S="1")
    yield made.start()
    made.stop()


@pytest.fixture
def gate(own: Env, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Opens when it is made; holds a task that computes until then."""
    made = own.folder / request.node.name
    task_id = own.submit(_GATED.format(gate=made))
    own.wait_for(task_id, "computation-started")
    yield made
    made.touch()
    own.wait(task_id)


def _places(env: Env, task_id: str) -> list[Path]:
    return list((env.data / "machines").glob(f"*/attempts/{task_id}-1/work/in.txt"))


def _staged(env: Env, task_id: str) -> str:
    until(lambda: _places(env, task_id), what="the inputs on the machine")
    task = env.task(task_id)
    assert task["status"] == "submitted"
    return until(lambda: str(env.task(task_id)["staged_on"] or ""), what="the mark")


def _fetched_before_the_start(task: dict[str, Any]) -> bool:
    times = {h["status"]: h["timestamp"] for h in task["status_history"]}
    operations = [o for h in task["status_history"] for o in h["operations"]]
    (download,) = [o for o in operations if o["name"] == "download_input"]
    return bool(download["end_timestamp"] < times["started"])


def test_the_next_tasks_inputs_are_here_before_its_turn(own: Env, gate: Path) -> None:
    task_id = own.submit("cat in.txt", files={"in.txt": "d\n"})
    (machine,) = own.api.get("/compute/group/local").json()["machines"]
    assert _staged(own, task_id) == machine["uuid"]
    assert machine["uuid"] in own.cli("tasks", "info", task_id).stdout
    assert own.api.get(f"/tasks/{task_id}/status").json()["position_in_queue"] is not None
    gate.touch()
    task = own.wait(task_id)
    assert task["status"] == "success"
    assert _fetched_before_the_start(task)
    assert own.outputs(task_id)["stdout.txt"].endswith(b"d\n")
    own.nothing_is_left()


def test_a_kill_lets_go_at_once(own: Env, gate: Path) -> None:
    task_id = own.submit("cat in.txt", files={"in.txt": "d\n"})
    _staged(own, task_id)
    own.api.post(f"/tasks/{task_id}/kill")
    assert own.wait(task_id)["status"] == "killed"
    until(lambda: not _places(own, task_id), what="the inputs to be gone")


def test_a_drain_lets_go_at_once(own: Env, gate: Path) -> None:
    task_id = own.submit("cat in.txt", files={"in.txt": "d\n"})
    _staged(own, task_id)
    own.part("agent").terminate()
    until(lambda: not _places(own, task_id), what="the inputs to be gone")
    assert own.task(task_id)["staged_on"] is None
    gate.touch()
    assert own.wait(task_id)["status"] == "success"


def test_an_upload_holds_no_slot(own: Env) -> None:
    task_id = own.submit(f"sh -c 'head -c {200 * MIB} /dev/urandom > large.bin'")
    quick = own.submit("true")
    task = own.wait(quick)
    large = own.wait(task_id)
    began = next(h for h in task["status_history"] if h["status"] == "computation-started")
    assert began["timestamp"] < large["end_time"]
