"""Spot machines: told or not told, their tasks go on elsewhere from where they were saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.env import Env
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

#: Counts to `steps`, each step a line in a log of its own; saves where it is after each step;
#: every step waits for the gate of the run it is in, or for a file that lets all of them go.
_COUNTER = """
import os, pathlib, sys, time
steps, gates = int(sys.argv[1]), pathlib.Path(sys.argv[2])
state = pathlib.Path(os.environ["SIMHERD_CHECKPOINT_DIR"]) / "state"
done = int(state.read_text()) if state.exists() else 0
log = open(gates / "steps", "a")
while done < steps:
    attempt = os.environ["SIMHERD_ATTEMPT"]
    while done >= 2 * int(attempt) and not (gates / "go").exists():
        time.sleep(0.01)
    done += 1
    print(attempt, done, file=log, flush=True)
    new = state.with_suffix(".new")
    new.write_text(str(done))
    new.replace(state)
print("restored", os.environ["SIMHERD_RESTORED"])
pathlib.Path("result.txt").write_text(str(done))
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Env]:
    made = Env(tmp_path_factory.mktemp("spot"), "--backend", "process", SIMHERD_SWEEP_S="1")
    made.start()
    made.start_group("spot", spot=True, max_idle_time=None)
    yield made
    made.stop()


def _machine(own: Env, task_id: str) -> str:
    """The machine that a task runs on. (One that was reclaimed, but never goes, comes back.)"""
    own.wait_for(task_id, "computation-started")
    return str(own.task(task_id)["executer"]["uuid"])


def _wait_for_lines(file: Path, count: int) -> None:
    until(
        lambda: file.exists() and len(file.read_text().splitlines()) >= count,
        what=f"{count} lines in {file}",
    )


def _wait_for_attempt(own: Env, task_id: str, attempt: int) -> None:
    until(lambda: own.task(task_id)["attempt"] == attempt, what=f"attempt {attempt}")


def test_a_notice_hands_the_task_back_and_it_goes_on_from_its_checkpoint(own: Env) -> None:
    gates = own.folder / "gates"
    gates.mkdir()
    task_id = own.submit(
        f"python3 counter.py 14 {gates}",
        group="spot",
        files={"counter.py": _COUNTER},
        more={"checkpoint": {"files": ["*.none"], "every_s": 3600}},
        resubmit_on_preemption=True,
    )
    steps = gates / "steps"
    machines = []
    for attempt in range(1, 6):
        _wait_for_lines(steps, 2 * attempt)
        machines.append(_machine(own, task_id))
        own.reclaim(machines[-1], 30)
        _wait_for_attempt(own, task_id, attempt + 1)
    (gates / "go").touch()
    task = own.wait(task_id)
    assert (task["status"], task["num_retries"]) == ("success", 5)
    outputs = own.outputs(task_id)
    assert outputs["result.txt"] == b"14"
    assert b"restored 5" in outputs["stdout.txt"]
    # Every step was computed once, and by more than one attempt.
    made = [line.split() for line in steps.read_text().splitlines()]
    assert [int(step) for _, step in made] == list(range(1, 15))
    assert {attempt for attempt, _ in made} == set("123456")
    # Others stand in for the machines that go.
    assert len(set(machines)) == 5
    told = own.api.get(f"/v1/tasks/{task_id}/attempts").json()
    assert [a["cause"] for a in told] == [*["spot_reclaimed"] * 5, "completed"]
    assert [a["saved"].get("generation") for a in told[:5]] == [1, 2, 3, 4, 5]
    # Of all those generations the newest two are stored.
    assert len(_saved(own, task_id)) == 2


def _saved(own: Env, task_id: str) -> list[Path]:
    """The stored files of a task's checkpoints, oldest first."""
    folder = next((own.data / "storage").rglob(f"{task_id}/checkpoints"))
    return sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime)


def _generations(own: Env, task_id: str) -> int:
    operations = [o for h in own.task(task_id)["status_history"] for o in h["operations"]]
    return sum(o["name"] == "save_checkpoint" and o["status"] == "OK" for o in operations)


def test_a_checkpoint_that_was_damaged_is_not_gone_on_from(own: Env) -> None:
    gates = own.folder / "damage"
    gates.mkdir()
    script = "if [ -e a.state ]; then cat a.state > restored.txt; exit; fi; "
    script += "for n in 1 2; do echo $n > a.state; "
    script += f"while [ ! -e {gates}/$n ]; do sleep 0.05; done; done"
    task_id = own.submit(
        f"sh -c '{script}'",
        group="spot",
        more={"checkpoint": {"files": ["*.state"], "every_s": 1}},
        resubmit_on_preemption=True,
    )
    until(lambda: _generations(own, task_id) == 1, what="the first generation")
    (gates / "1").touch()
    until(lambda: _generations(own, task_id) == 2, what="the second generation")
    _saved(own, task_id)[-1].write_text("9\n")
    own.reclaim(_machine(own, task_id), 0)
    task = own.wait(task_id)
    assert task["status"] == "success"
    assert own.outputs(task_id)["restored.txt"] == b"1\n"


def test_what_goes_on_runs_the_commands_that_were_given_for_it(own: Env) -> None:
    task_id = own.submit(
        "sh -c 'echo 7 > a.state; exec sleep 600'",
        group="spot",
        more={
            "checkpoint": {
                "files": ["*.state"],
                "every_s": 3600,
                "restore": "cp a.state went-on.txt",
            }
        },
        resubmit_on_preemption=True,
    )
    own.wait_for(task_id, "computation-started")
    until(lambda: own.processes("sleep 600"), what="the simulation")
    own.reclaim(_machine(own, task_id), 20)
    assert own.wait(task_id)["status"] == "success"
    assert own.outputs(task_id)["went-on.txt"] == b"7\n"


def test_without_resubmission_partial_outputs_are_kept(own: Env) -> None:
    task_id = own.submit("sh -c 'echo half > half.txt; exec sleep 600'", group="spot")
    own.wait_for(task_id, "computation-started")
    until(lambda: own.processes("sleep 600"))
    own.reclaim(_machine(own, task_id), 20)
    task = own.wait(task_id)
    assert (task["status"], task["cause"]) == ("spot-instance-preempted", "spot_reclaimed")
    assert own.outputs(task_id)["half.txt"] == b"half\n"
    assert "outputs until then were stored" in task["error_detail"]


def test_what_has_no_time_left_is_handed_back_all_the_same(own: Env) -> None:
    task_id = own.submit("sleep 600", group="spot")
    own.wait_for(task_id, "computation-started")
    own.reclaim(_machine(own, task_id), 0)
    task = own.wait(task_id)
    assert task["status"] == "spot-instance-preempted"
