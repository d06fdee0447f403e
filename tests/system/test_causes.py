"""Promises 1 and 5: what ended a task is what did end it, and the evidence is told."""

from __future__ import annotations

import io
import os
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.support.waits import until

if TYPE_CHECKING:
    from tests.support.env import Env

pytestmark = [pytest.mark.docker, pytest.mark.slow]

MIB = 1024**2


@pytest.fixture(scope="module")
def small(docker: Env) -> Env:
    """A machine group that has little of everything."""
    policy = {"memory_bytes": 64 * MIB, "pids": 40}
    docker.start_group("small", disk_size_gb=1, policy=policy)
    return docker


def test_out_of_memory_is_told_with_limit_and_peak(small: Env) -> None:
    hungry = "sh -c 'x=$(tail -c 300000000 /dev/zero | tr \"\\0\" x)'"
    task = small.wait(small.submit(hungry, group="small"))
    assert (task["status"], task["cause"]) == ("executer-failed", "out_of_memory")
    assert "limit 64.00 MiB, peak 6" in task["error_detail"]
    assert task["metrics"]["peak_memory_bytes"] > 60 * MIB


def test_a_child_that_is_out_of_memory_fails_nobody_who_goes_on(small: Env) -> None:
    goes_on = "sh -c '(x=$(tail -c 300000000 /dev/zero | tr \"\\0\" x)); exit 0'"
    task = small.wait(small.submit(goes_on, group="small"))
    assert (task["status"], task["cause"]) == ("success", "completed")


def test_137_alone_is_not_out_of_memory(small: Env) -> None:
    task = small.wait(small.submit("sh -c 'kill -9 $$'", group="small"))
    assert (task["status"], task["cause"]) == ("failed", "nonzero_exit")
    assert "137 (SIGKILL)" in task["error_detail"]


def test_a_fork_bomb_meets_the_pids_limit(small: Env) -> None:
    # What is refused processes goes on with what needs none, until the machine has looked at it.
    bomb = "(for i in $(seq 100); do sleep 600 & done); : > refused; until [ -e seen ]; do :; done"
    task_id = small.submit(f"sh -c '{bomb}; exit 1'", group="small")
    small.wait_for_file(task_id, "refused")
    before = _looks(small, task_id)
    # One look may have begun before.
    until(lambda: _looks(small, task_id) > before + 1, what="a look at what was refused")
    (small.work(task_id) / "seen").touch()
    task = small.wait(task_id)
    assert (task["status"], task["cause"]) == ("executer-failed", "pids_limit")
    assert "limit 40" in task["error_detail"]


def _looks(env: Env, task_id: str) -> int:
    """How often a task's machine has written down what the task uses."""
    series = (env.data / "machines").glob(f"*/series/{task_id}-1.csv")
    return sum(len(file.read_text().splitlines()) for file in series)


@pytest.mark.parametrize("end", ["exit 1", "exit 0", "exec sleep 600"])
def test_a_full_disk_ends_the_task_and_outputs_are_kept(small: Env, end: str) -> None:
    script = f"echo kept > small.txt; head -c 2G /dev/zero > big.bin; {end}"
    task = small.wait(small.submit(f"sh -c '{script}'", group="small"))
    assert (task["status"], task["cause"]) == ("executer-failed", "disk_limit")
    detail = task["error_detail"]
    assert "limit " in detail
    assert "use " in detail
    assert "big.bin" in detail
    outputs = small.outputs(task["task_id"])
    assert outputs["small.txt"] == b"kept\n"
    assert len(outputs["big.bin"]) > 900 * MIB
    assert "stdout.txt" in outputs


def test_a_deleted_file_that_is_held_open_counts(small: Env) -> None:
    script = "exec 3> big.bin; rm big.bin; head -c 2G /dev/zero >&3; exec sleep 600"
    task = small.wait(small.submit(f"sh -c '{script}'", group="small"))
    assert task["cause"] == "disk_limit"


def test_inputs_that_do_not_fit_are_told_as_a_full_disk(small: Env) -> None:
    # Compressible, but not as much as a bomb.
    piece = "".join(os.urandom(32).hex() + "0" * 4032 for _ in range(16))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("sim_dir/large.txt", piece * (16 * 1100))
    task_id = small.submit("true", group="small", archive=buffer.getvalue())
    task = small.wait(task_id)
    assert task["cause"] == "disk_limit"


def test_the_machine_says_how_it_keeps_the_limit(small: Env) -> None:
    (machine,) = small.api.get("/compute/group/small").json()["machines"]
    assert machine["facts"]["disk_limit"] == "loop"
    assert machine["facts"]["disk_free_bytes"] > 0
