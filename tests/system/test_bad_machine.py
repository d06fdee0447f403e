"""Promise 9: a machine on which task after task fails is drained, and another takes its place."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.env import Env
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Env]:
    made = Env(
        tmp_path_factory.mktemp("bad"),
        "--backend",
        "process",
        SIMHERD_SWEEP_S="1",
        SIMHERD_GRACE_S="6",
    )
    yield made.start()
    made.stop()


def _machines(env: Env) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = env.api.get("/compute/group/local").json()["machines"]
    return found


def test_a_bad_machine_is_drained_and_replaced(own: Env) -> None:
    (bad,) = _machines(own)
    # A disk that has broken: no attempt gets a place on it.
    broken = own.data / "machines" / bad["uuid"] / "attempts"
    shutil.rmtree(broken)
    broken.write_text("")
    for _ in range(2):
        assert own.wait(own.submit("true"))["cause"] == "agent_error"
    failed = own.wait(own.submit("true"))
    assert failed["status"] == "executer-failed"
    drained = until(
        lambda: next((m for m in _machines(own) if m["status"] == "drained"), None),
        what="the machine to be drained",
    )
    assert drained["uuid"] == bad["uuid"]
    assert failed["task_id"] in drained["drain_reason"]
    task = own.wait(own.submit("true"))
    assert task["status"] == "success"
    assert task["executer"]["uuid"] != bad["uuid"]
    shown = own.cli("resources", "info", "local")
    assert shown.returncode == 0, shown.stderr
    assert "tasks in a row failed here" in shown.stdout
    until(
        lambda: next(m for m in _machines(own) if m["uuid"] == bad["uuid"])["terminated_at"],
        what="the drained machine to be terminated",
    )


def test_failures_of_the_tasks_own_do_not_count(own: Env) -> None:
    for command in ("false", "sh -c 'exit 3'", "no-such-program", "false"):
        assert own.wait(own.submit(command))["status"] == "failed"
    (machine,) = _machines(own)
    assert machine["status"] == "started"
