"""Machine groups as operators have them: elastic, limited in time, shared, joined by hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from executor.join import join
from scheduler.services.accounts.users import create_key, create_user
from scheduler.store.engine import Store, open_engine
from simherd.contract.policy import INSECURE_BACKEND
from tests.support.env import Env, zipped
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

_GATED = "sh -c 'while [ ! -e {gate} ]; do sleep 0.05; done'"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Env]:
    made = Env(
        tmp_path_factory.mktemp("groups"),
        *("--backend", "process"),
        SIMHERD_SWEEP_S="1",
        SIMHERD_PROVIDERS="local,external",
        SIMHERD_GRACE_S="6",
        SIMHERD_ELASTIC_IDLE_S="2",
    )
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def other(own: Env) -> Iterator[httpx.Client]:
    """Another user of the same Simherd."""
    store = Store(open_engine(f"sqlite:///{own.data / 'simherd.db'}"))
    with store.write() as session:
        key = create_key(session, create_user(session, "other", "other@localhost").id, "test")
    headers = {"X-API-Key": key}
    with httpx.Client(base_url=own.url, headers=headers, timeout=30, trust_env=False) as client:
        yield client


def _group(own: Env, name: str) -> dict[str, Any]:
    found: dict[str, Any] = own.api.get(f"/compute/group/{name}").json()
    return found


def _machines(own: Env, name: str, *states: str) -> list[dict[str, Any]]:
    return [m for m in _group(own, name)["machines"] if m["status"] in (states or ("started",))]


def _register(own: Env, name: str, **fields: Any) -> None:
    body = {"machine_type": "local", "provider_id": "LOCAL", "name": name, "spot": False}
    made = own.api.post("/compute/group", json={**body, "max_idle_time": None, **fields})
    assert made.status_code == 201, made.text
    started = own.api.post("/compute/group/start", params={"machine_group_id": made.json()["id"]})
    assert started.status_code == 200, started.text


def _explain(own: Env, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = own.api.get(f"/v1/tasks/{task_id}/explain").json()
    return found


def test_an_elastic_group_comes_with_its_work_and_goes_with_it(own: Env) -> None:
    _register(own, "elastic", is_elastic=True, min_vms=0, max_vms=2)
    until(lambda: _group(own, "elastic")["status"] == "started")
    assert _machines(own, "elastic", "starting", "started") == []
    gate = own.folder / "elastic-gate"
    tasks = [own.submit(_GATED.format(gate=gate), group="elastic") for _ in range(5)]
    until(lambda: len(_machines(own, "elastic")) == 2, what="two machines")
    until(lambda: sum(own.status(t) == "computation-started" for t in tasks) == 2)
    assert len(_machines(own, "elastic", "starting", "started")) == 2
    gate.touch()
    assert [own.wait(t)["status"] for t in tasks] == ["success"] * 5
    until(lambda: not _machines(own, "elastic", "starting", "started", "drained"), what="nobody")
    assert _group(own, "elastic")["num_vms"] == 0
    # And it comes again.
    assert own.wait(own.submit("true", group="elastic"))["status"] == "success"


def test_at_its_time_limit_a_group_warns_its_tasks_and_keeps_their_outputs(own: Env) -> None:
    _register(
        own, "limited", auto_terminate_ts=(datetime.now(UTC) + timedelta(seconds=40)).isoformat()
    )
    script = "trap 'echo warned > warned.txt' USR1; echo begun > begun.txt; "
    script += "while :; do sleep 0.05; done"
    working = own.submit(f'sh -c "{script}"', group="limited")
    waiting = own.submit("true", group="limited")
    task = own.wait(working)
    assert (task["status"], task["cause"]) == (
        "executer-terminated-ttl-exceeded",
        "group_time_limit",
    )
    outputs = own.outputs(working)
    assert outputs["begun.txt"] == b"begun\n"
    assert outputs["warned.txt"] == b"warned\n"
    assert own.wait(waiting)["status"] in {"success", "zombie"}
    until(lambda: _group(own, "limited")["status"] == "terminated")


def test_users_of_a_shared_group_take_turns(own: Env, other: httpx.Client) -> None:
    _register(own, "shared", shared=True)
    gate = own.folder / "shared-gate"
    first = own.submit(_GATED.format(gate=gate), group="shared")
    own.wait_for(first, "computation-started")
    mine = [own.submit("true", group="shared") for _ in range(10)]
    group = other.get("/compute/group/shared").json()
    assert "shared" in {g["name"] for g in other.get("/compute/groups").json()}
    theirs = _submit_as(other, own, group["id"])
    positions = [_position(own.api, task) for task in mine]
    assert _position(other, theirs) <= 2
    assert sorted([*positions, _position(other, theirs)]) == list(range(11))
    until(lambda: _explain(own, mine[-1])["reason"] == "busy", what="its machine to be known")
    # But it is not theirs to end, nor are its tasks.
    ended = other.delete("/compute/group", params={"machine_group_id": group["id"]})
    assert ended.status_code == 404
    assert other.get(f"/tasks/{mine[0]}").status_code == 404
    gate.touch()
    for task in mine:
        own.wait(task)


def _submit_as(user: httpx.Client, own: Env, group_id: str) -> str:
    body = {
        "simulator": "arbitrary_commands",
        "resource_pool": group_id,
        "container_image": "any",
        "extra_params": {"commands": [{"cmd": "true"}]},
    }
    task = str(user.post("/tasks/submit", json=body).json()["id"])
    query = {"operation": "upload", "paths": f"{task}/input.zip"}
    (url,) = user.get("/storage/signed-urls", params=query).json()
    assert httpx.put(url, content=zipped({}), trust_env=False, timeout=60).status_code == 200
    assert user.post(f"/tasks/{task}/input_uploaded").status_code == 200
    return task


def _position(user: httpx.Client, task: str) -> int:
    return int(user.get(f"/tasks/{task}/status").json()["position_in_queue"]["tasks_ahead"])


def test_a_higher_priority_goes_first_and_a_task_says_why_it_waits(own: Env) -> None:
    gate = own.folder / "priority-gate"
    holder = own.submit(_GATED.format(gate=gate))
    own.wait_for(holder, "computation-started")
    usual = own.submit("true")
    urgent = own.submit("true", priority=50)
    assert (_position(own.api, urgent), _position(own.api, usual)) == (0, 1)
    told = _explain(own, usual)
    assert (told["reason"], told["ahead"]) == ("busy", 1)
    assert "1 task(s) are ahead" in own.cli("tasks", "explain", usual).stdout
    assert _explain(own, holder)["reason"] == "works"
    gate.touch()
    # Not their ends: the outputs of one are uploaded while the next one runs.
    assert own.wait(urgent)["start_time"] < own.wait(usual)["start_time"]
    assert _explain(own, urgent)["reason"] == "ended"


def test_a_task_of_a_group_without_machines_says_so(own: Env) -> None:
    made = own.api.post(
        "/compute/group", json={"machine_type": "local", "provider_id": "LOCAL", "name": "idle"}
    )
    assert made.status_code == 201
    assert _explain(own, own.submit("true", group="idle"))["reason"] == "group_not_started"


def _insecure(value: str) -> dict[str, str]:
    """The environment of an agent whose simulations may run without isolation: "true", or ""."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SIMHERD_")}
    return {**clean, INSECURE_BACKEND: value}


def _refused(argv: list[str], insecure: str = "true") -> str:
    """What an agent says that may not work."""
    done = subprocess.run(
        argv,
        env={**_insecure(insecure), "SIMHERD_METRICS_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    return done.stderr


def test_a_machine_of_ones_own_joins_works_and_leaves(own: Env, tmp_path: Path) -> None:
    done = own.cli(
        *("resources", "start", "local", "--name", "mine", "--from", "external"),
        *("--on-demand", "--max-idle-time", "1h"),
    )
    assert done.returncode == 0, done.stderr
    command = own.cli("resources", "invite", "mine").stdout.split()
    assert command[:2] == ["simherd-executor", "join"]
    argv = [sys.executable, "-m", "executor", *command[1:], "--backend", "process"]
    # Simulations without isolation are for who says so; the token is not spent.
    said = _refused([*argv, "--state-dir", str(tmp_path / "machine")], insecure="")
    assert "set SIMHERD_INSECURE_PROCESS_BACKEND=true if every user" in said
    agent = subprocess.Popen(
        [*argv, "--state-dir", str(tmp_path / "machine")],
        env=_insecure("true"),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert own.wait(own.submit("true", group="mine"))["status"] == "success"
        (machine,) = until(lambda: _machines(own, "mine"), what="the machine to be listed")
        assert machine["facts"]["backend"] == "process"
        # The folder is one agent's.
        said = _refused([*argv, "--state-dir", str(tmp_path / "machine")])
        assert "another agent works in this folder" in said
        # The same token lets nobody else in.
        said = _refused([*argv, "--state-dir", str(tmp_path / "second")])
        assert "used by another" in said
        # Nobody looks for the health of what has never been.
        assert not (tmp_path / "second" / "metrics.json").exists()
        own.cli("resources", "terminate", "mine", "-y")
        assert agent.wait(60) == 0
        until(lambda: _group(own, "mine")["status"] == "terminated")
    finally:
        if agent.poll() is None:
            agent.send_signal(signal.SIGKILL)
        agent.communicate()


def _no_wait(seconds: float) -> None:
    pytest.fail(f"the scheduler was out of reach, {seconds} s")


def test_a_secret_grows_old_and_another_takes_its_place(own: Env, tmp_path: Path) -> None:
    _register(own, "secret", provider="external")
    invited = own.api.post("/v1/groups/secret/invitations").json()
    ticket = tmp_path / "ticket.json"
    ticket.write_text(json.dumps(invited))
    identity = join(ticket, tmp_path, _no_wait)
    first = identity.secret
    identity.renew_secret()
    assert identity.secret == first
    kept = tmp_path / "identity.json"
    assert kept.stat().st_mode & 0o077 == 0
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "secret_at": 0}))
    identity.renew_secret()
    assert identity.secret != first
    identity.post("notice", {"reclaim_at": None})
    # After a restart it is the same machine, with the secret that is good.
    again = join(ticket, tmp_path, _no_wait)
    assert (again.membership, again.secret) == (identity.membership, identity.secret)
    identity.secret = first
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        identity.post("notice", {"reclaim_at": None})
    own.cli("resources", "terminate", "secret", "-y")


def test_a_group_that_cannot_be_says_which_field_is_wrong(own: Env) -> None:
    body = {"machine_type": "local", "provider_id": "LOCAL"}
    wrong: dict[str, dict[str, Any]] = {
        "provider": {"provider": "moon"},
        "max_vms": {"is_elastic": True, "min_vms": 3, "max_vms": 2},
    }
    for field, fields in wrong.items():
        answer = own.api.post("/compute/group", json={**body, **fields})
        assert answer.status_code == 422, answer.text
        assert answer.json()["detail"].startswith(f"{field}:")
    invited = own.api.post("/v1/groups/local/invitations")
    assert invited.status_code == 422
    assert "external" in invited.json()["detail"]


def test_the_doctor_is_for_operators(own: Env, other: httpx.Client) -> None:
    done = own.cli("admin", "doctor")
    assert (done.returncode, done.stdout) == (0, "All is well.\n")
    assert other.post("/v1/admin/doctor", json={}).status_code == 403
