"""Waiting for a `Task`, as the class reference has it, by our client."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simherd import errors
from simherd.contract.lifecycle import Status
from simherd.tasks import Task
from tests.system.test_task_reference import files

if TYPE_CHECKING:
    from tests.support.env import Env


@pytest.fixture(autouse=True)
def _connected(env: Env, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIMHERD_API_URL", env.url)
    monkeypatch.setenv("SIMHERD_API_KEY", env.key)
    monkeypatch.setattr("simherd.config._output_dir", "simherd_output")
    monkeypatch.chdir(tmp_path)


@pytest.mark.conforms("Task.wait")
def test_waiting_shows_logs_and_brings_them_home(
    env: Env, capsys: pytest.CaptureFixture[str]
) -> None:
    task = Task(env.submit("echo said"))
    assert task.wait(polling_period=1) is Status.SUCCESS
    shown = capsys.readouterr().out
    assert "said\n" in shown
    assert shown.rstrip().splitlines()[-1].startswith("■ Success")
    assert set(files(Path("simherd_output", task.id, "outputs"))) == {"stdout.txt", "stderr.txt"}


@pytest.mark.conforms("Task.wait")
def test_waiting_can_be_silent_and_leave_everything_there(
    env: Env, capsys: pytest.CaptureFixture[str]
) -> None:
    task = Task(env.submit("sh -c 'echo said; exit 3'"))
    assert task.wait(1, silent_mode=True, download_std_on_completion=False) == "failed"
    assert capsys.readouterr().out == ""
    assert not Path("simherd_output").exists()
    assert task.is_failed()


@pytest.mark.conforms("Task.wait_for_status", "7.26")
def test_a_status_is_waited_for_or_the_end(env: Env, capsys: pytest.CaptureFixture[str]) -> None:
    task = Task(env.submit("sleep 600"))
    assert task.wait_for_status("computation-started") == "computation-started"
    assert capsys.readouterr().out.startswith("■ ")
    # One that has passed is not waited for any more.
    assert task.wait_for_status("submitted", silent_mode=True) == "computation-started"
    assert capsys.readouterr().out == ""
    task.kill(wait_timeout=None, verbosity_level=0)
    assert task.wait_for_status("success", polling_period=1, silent_mode=True) == "killed"
    with pytest.raises(errors.InvalidInput, match="no 'done'"):
        task.wait_for_status("done")


@pytest.mark.conforms("Task.sync_context")
def test_an_exception_kills_and_goes_on_its_way(env: Env) -> None:
    task = Task(env.submit("sleep 600"))
    with pytest.raises(KeyError, match="oh"), task.sync_context():
        raise KeyError("oh")
    assert task.wait(silent_mode=True, download_std_on_completion=False) == "killed"


WAITER = """
import simherd, sys
task = simherd.tasks.Task(sys.argv[1])
with {context}:
    task.wait()
"""


@pytest.mark.conforms("Task.sync_context", "Task.wait")
@pytest.mark.parametrize(
    ("context", "end"), [("task.sync_context()", "killed"), ("memoryview(b'')", "success")]
)
def test_ctrl_c_kills_in_a_sync_context_alone(env: Env, context: str, end: str) -> None:
    gate = env.folder / f"gate-{end}"
    task_id = env.submit(f"sh -c 'echo begun; while [ ! -e {gate} ]; do sleep 0.05; done'")
    waiter = subprocess.Popen(
        [sys.executable, "-c", WAITER.format(context=context), task_id],
        env={**os.environ, **env.connection},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiter.stdout is not None
    assert any("begun" in line for line in waiter.stdout)
    waiter.send_signal(signal.SIGINT)
    _, complaint = waiter.communicate(timeout=60)
    assert "KeyboardInterrupt" in complaint
    if end == "success":
        assert env.status(task_id) == "computation-started"
        gate.touch()
    assert env.wait(task_id)["status"] == end
