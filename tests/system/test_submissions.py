"""Submitting again, many at once, and with inputs that are shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waits import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.env import Env


def _body(env: Env, **more: Any) -> dict[str, Any]:
    return {
        "simulator": "arbitrary_commands",
        "resource_pool": env.api.get("/compute/group/local").json()["id"],
        "container_image": "docker://simherd/debian:bookworm",
        "extra_params": {"commands": [{"cmd": "true"}]},
        **more,
    }


@pytest.mark.fault("B8")
@pytest.mark.conforms("POST /tasks/submit", "7.25")
def test_a_repeated_request_makes_no_second_task(env: Env) -> None:
    headers = {"Idempotency-Key": "my-case-1"}
    first = env.api.post("/tasks/submit", json=_body(env), headers=headers)
    again = env.api.post("/tasks/submit", json=_body(env), headers=headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    other = env.api.post("/tasks/submit", json=_body(env, priority=1), headers=headers)
    assert other.status_code == 409
    assert "my-case-1" in other.json()["detail"]
    assert env.api.post("/tasks/submit", json=_body(env)).json()["id"] != first.json()["id"]
    env.api.post(f"/tasks/{first.json()['id']}/kill")


@pytest.mark.parametrize("key", ["", "with blank", "x" * 300, "ä"])
def test_a_key_that_cannot_be_is_refused(env: Env, key: str) -> None:
    headers = [(b"Idempotency-Key", key.encode())]
    assert env.api.post("/tasks/submit", json=_body(env), headers=headers).status_code == 422


def test_a_batch_is_made_whole_or_not_at_all(env: Env) -> None:
    before = env.api.get("/tasks").json()["total_size"]
    bad = _body(env, extra_params={"commands": []})
    refused = env.api.post("/v1/tasks/batch", json={"tasks": [_body(env), bad]})
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("tasks[1].extra_params.commands")
    assert env.api.get("/tasks").json()["total_size"] == before


def test_a_task_without_inputs_of_its_own_needs_no_upload(env: Env) -> None:
    made = env.api.post("/v1/tasks/batch", json={"tasks": [_body(env, has_input=False)]}).json()
    assert made[0]["upload_url"] is None
    assert env.wait(made[0]["id"])["status"] == "success"


def test_a_sweep_shares_its_inputs(env: Env, tmp_path: Path) -> None:
    """What the cases share is stored once, and files of a case go over it."""

    def shared() -> int:
        found = env.api.get("/storage/contents", params={"path": "shared"}).json()
        return int(found.get("total_files", 0))

    before = shared()
    out = env.python(
        """
import pathlib, simherd
mesh = pathlib.Path("mesh"); (mesh / "deep").mkdir(parents=True)
(mesh / "deep" / "grid.txt").write_text("grid")
(mesh / "speed.txt").write_text("none")
(mesh / "run.sh").write_text("#!/bin/sh\\ncat deep/grid.txt speed.txt > result.txt\\n")
(mesh / "run.sh").chmod(0o755)
simulator = simherd.simulators.CustomImage("docker://simherd/debian:bookworm")
def sweep():
    return simulator.run_sweep(
        [{"files": {"speed.txt": str(n)}, "metadata": {"case": str(n)}} for n in range(3)],
        shared_dir=mesh, commands=["./run.sh"], client_key="sweep-1", metadata={"study": "one"},
    )
tasks = sweep()
print([t.id for t in tasks] == [t.id for t in sweep()])
print(simherd.tasks.wait(tasks, silent_mode=True))
for task in tasks:
    task.download_outputs(["result.txt"], output_dir=task.id)
    print(task.get_metadata(), pathlib.Path("simherd_output", task.id, "result.txt").read_text())
""",
        tmp_path,
    )
    lines = out.splitlines()
    assert lines[0] == "True"
    assert lines[1].count("SUCCESS") == 3
    assert lines[2] == "{'study': 'one', 'case': '0'} grid0"
    assert lines[4] == "{'study': 'one', 'case': '2'} grid2"
    assert shared() == before + 1


def test_a_broken_case_sends_nothing(env: Env, tmp_path: Path) -> None:
    before = env.api.get("/tasks").json()["total_size"]
    out = env.python(
        """
import simherd
simulator = simherd.simulators.CustomImage("x")
for case in ({"commands": []}, {"commands": ["true"], "files": {"../x": "a"}}, {"colour": "red"}):
    try:
        simulator.run_sweep([{"commands": ["true"]}, case])
    except simherd.SimherdError as error:
        print(error)
""",
        tmp_path,
    )
    lines = out.splitlines()
    assert lines[0].startswith("cases[1]: commands:")
    assert "files: '../x'" in lines[1]
    assert lines[2].startswith("cases[1]: colour:")
    assert env.api.get("/tasks").json()["total_size"] == before


#: Submits three tasks, of whose inputs the second cannot be read when it is its turn.
_BROKEN = """
import pathlib, simherd
for name in "abc":
    pathlib.Path(name).mkdir(exist_ok=True)
    pathlib.Path(name, "in.txt").write_text(name)
from simherd.transfers import input_archive
real = input_archive.zipped
def broken(entries, *more):
    if entries[0].path.parent.name == "b":
        raise simherd.SimherdError("the disk broke")
    return real(entries, *more)
simulator = simherd.simulators.CustomImage("x")
def submit():
    cases = [{"input_dir": name} for name in "abc"]
    return simulator.run_sweep(cases, commands=["true"], project=PROJECT, client_key=KEY)
input_archive.zipped = broken
try:
    submit()
except simherd.SimherdError as error:
    print(error)
"""


def _statuses(env: Env, project: str) -> list[str]:
    rows = env.api.get("/tasks", params={"project": project}).json()["tasks"]
    return sorted(row["status"] for row in rows)


def test_an_upload_that_fails_kills_only_what_waits_for_it(env: Env, tmp_path: Path) -> None:
    out = env.python(f"PROJECT, KEY = 'broken', None\n{_BROKEN}", tmp_path)
    assert out.strip() == "the disk broke"
    until(
        lambda: _statuses(env, "broken") == ["killed", "success", "success"],
        what="one to be killed and two to run",
    )


def test_a_named_submission_goes_on_after_an_upload_that_failed(env: Env, tmp_path: Path) -> None:
    again = "input_archive.zipped = real\nprint(simherd.tasks.wait(submit(), silent_mode=True))"
    out = env.python(f"PROJECT, KEY = 'mended', 'mended'\n{_BROKEN}\n{again}", tmp_path)
    assert out.count("SUCCESS") == 3
    assert _statuses(env, "mended") == ["success"] * 3


def test_waiting_without_any_time_tells_how_tasks_stand(env: Env, tmp_path: Path) -> None:
    done, runs = env.submit("true"), env.submit("sleep 600")
    env.wait(done)
    out = env.python(
        f"""
import asyncio, simherd
from simherd import aio, tasks
done, runs = tasks.Task({done!r}), tasks.Task({runs!r})
print(tasks.wait([done, done], timeout=0, silent_mode=True))
print(asyncio.run(aio.wait([aio.Task(done)], timeout=0)))
for wait in (lambda: tasks.wait([done, runs], timeout=0.2, silent_mode=True),
             lambda: asyncio.run(aio.wait([aio.Task(done), aio.Task(runs)], timeout=0.2))):
    try:
        wait()
    except TimeoutError as error:
        print(error.task_ids == [runs.id], error)
print(runs.kill(wait_timeout=30, verbosity_level=0))
print(asyncio.run(aio.wait([aio.Task(runs)])))
""",
        tmp_path,
    )
    lines = out.splitlines()
    assert lines[0].count("SUCCESS") == 2
    assert lines[1].count("SUCCESS") == 1
    assert lines[2].startswith("True 1 of 2")
    assert lines[3].startswith("True 1 of 2")
    assert lines[4] == "True"
    assert "KILLED" in lines[5]
