"""What drills may touch, what they refuse, and that they are healed: without an engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import yaml
from click.testing import CliRunner
from simherd_drills import cli
from simherd_drills.disks import fill
from simherd_drills.docker_engine import Container, Engine
from simherd_drills.drills import held
from simherd_drills.errors import DockerUnavailable, DrillNotPossible
from simherd_drills.heal import heal
from simherd_drills.local_machines import local_redis
from simherd_drills.machines import DockerMachine
from simherd_drills.services import services
from simherd_drills.suspended import FROZEN
from simherd_drills.targets import Targets

from simherd.contract import labels
from simherd.errors import SimherdError
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMPOSE = Path(__file__).parents[2] / "deploy" / "docker-compose.yml"
_ID = "00000000-0000-4000-8000-000000000001"


class _Engine(Engine):
    """An engine that has these containers, and writes down what is done to them."""

    def __init__(self, *containers: Container) -> None:
        self._all = containers
        self.done: list[str] = []

    def containers(self, *labels: str) -> list[Container]:
        def has(container: Container, label: str) -> bool:
            name, _, value = label.partition("=")
            return name in container.labels and value in ("", container.labels[name])

        return [c for c in self._all if all(has(c, label) for label in labels)]

    def beside(
        self, container: Container, image: str, script: str, *arguments: str, host: bool = False
    ) -> str:
        self.done.append(f"{container.id} network")
        return "sh: a warning that is no answer"

    def pause(self, container: Container) -> None:
        self.done.append(f"{container.id} pause")

    def unpause(self, container: Container) -> None:
        self.done.append(f"{container.id} unpause")


def _container(
    name: str, network: str = "p_backend", state: str = "running", **more: str
) -> Container:
    marks = {labels.COMPOSE_PROJECT: "p", labels.COMPOSE_SERVICE: name}
    marks |= {getattr(labels, key): value for key, value in more.items()}
    return Container(f"{name}-id", name, "image-id", "image", state, marks, network)


_WORKER = _container("worker", IMAGE_TITLE="Simherd")


@pytest.mark.parametrize("network", ["host", "container:another"])
def test_a_store_that_shares_anothers_network_is_not_broken(network: str) -> None:
    engine = _Engine(_WORKER, _container("s3", network, SERVICE="s3"))
    (store,) = services(engine, None)
    for how in ("refuse", "drop"):
        with pytest.raises(DrillNotPossible, match=f"shares another's network \\({network}\\)"):
            store.break_(how)
    with pytest.raises(DrillNotPossible, match="shares another's network"):
        store.slow("1mbit")
    assert engine.done == []
    store.break_("pause")
    assert engine.done == ["s3-id pause"]


def test_a_service_is_cut_off_and_healed() -> None:
    engine = _Engine(_WORKER, _container("s3", SERVICE="s3"))
    (store,) = services(engine, None)
    store.break_("drop")
    assert not store.mend()
    assert engine.done == ["s3-id network"] * 2


def test_a_machine_that_is_frozen_meanwhile_cannot_say_its_disk() -> None:
    class Refuses(_Engine):
        def inside(self, container: Container, script: str, *arguments: str) -> str:
            raise SimherdError(f"{container.name} is paused, unpause the container before exec")

    seen = _container("m-1", MACHINE=_ID)
    assert DockerMachine(Refuses(replace(seen, state="paused")), seen).disk() is None
    # What is wrong with one that runs is said.
    with pytest.raises(SimherdError, match="is paused"):
        DockerMachine(Refuses(seen), seen).disk()


def test_only_services_with_our_label_are_targets() -> None:
    stranger = _container("redis", IMAGE_TITLE="another")
    engine = _Engine(_WORKER, stranger, _container("redis-2", SERVICE="redis"))
    assert [(s.name, s.role) for s in services(engine, None)] == [("redis-2", "redis")]
    there = yaml.safe_load(_COMPOSE.read_text())["services"]
    marked = {name: one["labels"] for name, one in there.items() if "labels" in one}
    assert marked == {
        "redis": {labels.SERVICE: labels.REDIS},
        "s3": {labels.SERVICE: labels.STORAGE},
    }


def test_a_refused_drill_heals_nothing_and_all_others_do() -> None:
    seen: list[str] = []

    def refuse() -> None:
        raise DrillNotPossible("a drill goes on there already.")

    def fail() -> None:
        raise SimherdError("half of it is done.")

    with pytest.raises(DrillNotPossible), held(refuse, lambda: seen.append("refused")):
        raise AssertionError
    with pytest.raises(SimherdError), held(fail, lambda: seen.append("failed")):
        raise AssertionError
    # One victim is broken already when the next one refuses.
    with pytest.raises(DrillNotPossible), held(lambda: None, lambda: seen.append("first")):
        refuse()
    assert seen == ["failed", "first"]


_HELD = """
import os, signal, sys, time
from simherd_drills.drills import held
from simherd_drills.interrupts import listen

def heal():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(os.getpid(), number)
    print("healed", flush=True)

listen()
try:
    with held(lambda: None, heal), held(lambda: None, heal):
        print("broken", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_healing_completes_however_a_drill_ends(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", _HELD], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "broken\n"
        run.send_signal(number)
        assert run.stdout.read() == "healed\n" * 2
    assert run.returncode == 130


class _Machine:
    """A machine that works on this disk, and can be thawed or not."""

    def __init__(self, name: str, disk: int | None = 0, error: str = "") -> None:
        self.id = self.name = name
        self._disk = disk
        self._error = error

    def disk(self) -> int | None:
        return self._disk

    def engine_disk(self) -> int:
        return -1

    def fill(self, leave: int) -> int:
        return leave

    def thaw(self) -> bool:
        if self._error:
            raise SimherdError(self._error)
        return True

    def join(self) -> bool:
        return False

    empty = join


class _Ground(Targets):
    """A ground with these machines."""

    def __init__(self, *machines: _Machine) -> None:
        super().__init__(None, None)
        self.engine = _Engine()
        self._machines = machines

    def machines(self) -> list[_Machine]:  # type: ignore[override]
        return list(self._machines)


def test_heal_continues_after_a_failure_and_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ground = _Ground(_Machine("m-1", error="m-1 does not answer."), _Machine("m-2"))
    monkeypatch.setattr(cli, "Targets", lambda *_: ground)
    monkeypatch.setattr(cli, "listen", lambda: None)
    done = CliRunner().invoke(cli.command, ["heal"])
    assert done.exit_code == 1
    assert done.stdout == "m-2 moves again.\n"
    assert done.stderr == "Error: m-1 does not answer.\n"


@pytest.mark.parametrize(
    ("disk", "whose"),
    [
        (os.stat("/").st_dev, "this host's own system"),
        (-1, "the engine's images and volumes"),
        (-2, "m-2, too"),
    ],
)
def test_a_disk_that_others_use_is_not_filled(disk: int, whose: str) -> None:
    machine = _Machine("m-1", disk)
    ground = _Ground(machine, _Machine("m-2", -2))
    with pytest.raises(DrillNotPossible, match=f"m-1 works on the disk of {whose}"):
        fill(ground, machine, 1, even_shared=False)  # type: ignore[arg-type]
    assert fill(ground, machine, 1, even_shared=True) == 1  # type: ignore[arg-type]
    still = _Ground(machine, _Machine("m-2", None))
    with pytest.raises(DrillNotPossible, match="works on the disk of"):
        fill(still, machine, 1, even_shared=False)  # type: ignore[arg-type]
    alone = _Machine("m-3", -3)
    assert fill(ground, alone, 1, even_shared=False) == 1  # type: ignore[arg-type]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The agent of a machine in this folder, with a child."""
    folder = tmp_path / "machines" / _ID
    folder.mkdir(parents=True)
    membership = {"machine_id": _ID, "machine_name": "m-1"}
    (folder / "identity.json").write_text(json.dumps({"membership": membership}))
    told = {"SIMHERD_SPOT_NOTICES": f"file://{folder}/notice", "SIMHERD_BACKEND": "docker"}
    argv = ["sh", "-c", "sleep 60 & echo $! >child.new; mv child.new child; wait"]
    with subprocess.Popen(argv, cwd=folder, env={**os.environ, **told}) as process:
        (folder / "agent.pid").write_text(str(process.pid))
        until((folder / "child").exists)
        child = psutil.Process(int((folder / "child").read_text()))
        try:
            yield process
        finally:
            child.kill()
            process.kill()


@pytest.mark.parametrize("by_heal", [False, True])
def test_suspended_containers_of_an_agent_are_healed(
    tmp_path: Path, agent: subprocess.Popen[bytes], by_heal: bool
) -> None:
    ground = Targets(tmp_path, None)
    ground.engine = engine = _Engine(_container("run", state="paused", HOLDER=_ID))
    folder = tmp_path / "machines" / _ID
    child = psutil.Process(int((folder / "child").read_text()))
    (machine,) = ground.machines()
    machine.freeze()
    both = (child, psutil.Process(agent.pid))
    until(lambda: {one.status() for one in both} == {psutil.STATUS_STOPPED})
    with pytest.raises(DrillNotPossible, match="a drill goes on there already"):
        machine.freeze()
    agent.kill()
    agent.wait()
    assert ground.machines() == []
    (left,) = ground.left_frozen()
    assert left.thaw() if by_heal else machine.thaw()
    until(lambda: child.status() == psutil.STATUS_SLEEPING)
    assert engine.done == ["run-id unpause"]
    assert not (folder / FROZEN).exists()


def test_a_number_that_is_anothers_by_now_is_left_alone(
    tmp_path: Path, agent: subprocess.Popen[bytes]
) -> None:
    ground = Targets(tmp_path, None)
    ground.engine = _Engine()
    process = psutil.Process(agent.pid)
    process.suspend()
    until(lambda: process.status() == psutil.STATUS_STOPPED)
    frozen = tmp_path / "machines" / _ID / FROZEN
    frozen.write_text(json.dumps([[agent.pid, process.create_time() - 3600]]))
    (left,) = ground.left_frozen()
    assert not left.thaw()
    assert process.status() == psutil.STATUS_STOPPED


def test_machines_that_are_processes_need_no_engine(
    tmp_path: Path, agent: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    ground = Targets(tmp_path, None)
    assert [m.name for m in ground.machines()] == ["m-1"]
    for found in (ground.named(["m-1"]), ground.some([_ID], 1, 7)):
        assert [m.id for m in found] == [_ID]
    with pytest.raises(DockerUnavailable, match="does not respond"):
        ground.named(["m-2"])
    with pytest.raises(DockerUnavailable, match="does not respond"):
        Targets(None, None).machines()
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.setattr("simherd_drills.docker_engine._SOCKET", tmp_path / "no.sock")
    healed = heal(ground)
    assert (healed.done, healed.failed) == ([], [])


def test_a_redis_of_somebody_else_is_not_ours(tmp_path: Path) -> None:
    for name in ("run", "redis"):
        (tmp_path / name).mkdir()
    argv = ["sh", "-c", "echo up; read line", "redis-server"]
    for folder, is_ours in ((tmp_path, False), (tmp_path / "redis", True)):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(argv, cwd=folder, **pipes) as process:  # type: ignore[call-overload]
            process.stdout.readline()
            (tmp_path / "run" / "redis.pid").write_text(str(process.pid))
            assert (local_redis(tmp_path) is not None) == is_ours
