"""`simherd sim`: what an operator breaks on purpose, on machines that are containers."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.conftest import BASE_IMAGE, missing
from tests.support.deployment import GROUP, Deployment, deployment, docker
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.docker, pytest.mark.slow]

#: Courses at one time; what breaks one machine is nothing to the others.
_AT_ONCE = (("reclaim",), ("partition", "freeze", "kill-agent"))
#: And those that break what all of them need; they share a disk, too.
_ALONE = ("restart-redis", "slow-storage", "break-storage", "fill-disk")


@pytest.fixture(scope="module")
def own(machine_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    if os.geteuid() != 0:
        missing("only root can mount")
    with deployment(tmp_path_factory.mktemp("drills"), machine_image, BASE_IMAGE) as made:
        yield made


def _course(own: Deployment, drills: tuple[str, ...], *more: str) -> list[dict[str, Any]]:
    only = [word for drill in drills for word in ("--only", drill)]
    done = own.sim("drill", "--group", GROUP, "--for", "2s", "--yes", "--json", *only, *more)
    print(done.stdout, done.stderr)
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    assert done.returncode == 0
    return rows


@pytest.mark.timeout(300)
def test_every_drill_keeps_its_promise(own: Deployment) -> None:
    with ThreadPoolExecutor() as pool:
        courses = list(pool.map(lambda drills: _course(own, drills), _AT_ONCE))
    rows = {r["drill"]: r for r in chain(*courses, _course(own, _ALONE, "--even-shared"))}
    assert len(rows) == 13
    assert [r["drill"] for r in rows.values() if r["held"] is not True] == []
    assert "attempts: spot_reclaimed, completed" in rows["reclaim --notice 0"]["seen"]
    assert rows["kill-agent"]["seen"] == "attempts: completed"
    assert "are needed" in rows["fill-disk"]["seen"]
    assert "Finalizing meanwhile" in rows["break-storage --how drop"]["seen"]
    assert own.sim("heal").stdout == "There is nothing to heal.\n"


def _three(own: Deployment) -> list[dict[str, Any]] | None:
    found = own.machines()
    return found if len(found) == 3 else None


def _state(machine: dict[str, Any]) -> str:
    name = f"simherd-machine-{machine['uuid']}"
    return docker("inspect", "-f", "{{.State.Status}}", name)


def _chain(machine: dict[str, Any]) -> bool:
    """Whether the machine's network is broken."""
    name = f"simherd-machine-{machine['uuid']}"
    tool = ("--user", "0", "--network", f"container:{name}", "--cap-add", "NET_ADMIN")
    image = docker("inspect", "-f", "{{.Image}}", name)
    return "DROP" in docker("run", "--rm", *tool, image, "iptables", "-S")


def test_what_is_broken_is_healed_whatever_ends_the_command(own: Deployment) -> None:
    first, second, third = until(lambda: _three(own), what="three machines")
    frozen = own.begin("freeze", first["host_name"], "--for", "600s", "--yes")
    cut = own.begin("partition", second["uuid"], "--for", "600s", "--yes")
    others = own.sim("fill-disk", third["host_name"], "--yes").stderr
    assert f"{third['host_name']} works on the disk of " in others
    assert "a full one harms more than this machine" in others
    filled = own.begin("fill-disk", third["host_name"], "--even-shared", "--for", "600s", "--yes")
    ballast = own.env.data / "machines" / third["uuid"] / "drill-ballast"
    until(lambda: _state(first) == "paused", what="a machine that stands still")
    until(lambda: _chain(second), what="a machine that is cut off")
    # Whoever is refused leaves alone what another drill has done.
    again = own.sim("partition", second["uuid"], "--yes")
    assert "a drill goes on there already" in again.stderr
    assert _chain(second)
    until(ballast.exists, what="a disk that is full")
    frozen.send_signal(signal.SIGINT)
    filled.send_signal(signal.SIGTERM)
    cut.kill()
    assert (frozen.wait(30), filled.wait(30), cut.wait(30)) == (130, 130, -signal.SIGKILL)
    assert _state(first) == "running"
    assert not ballast.exists()
    assert _chain(second)
    assert own.sim("heal").stdout == f"{second['host_name']} has its network back.\n"
    assert not _chain(second)


def test_machines_that_are_processes_and_their_redis_have_drills_too(own: Deployment) -> None:
    agent = own.env.agent_of("local")
    (machine,) = own.env.api.get("/compute/group/local").json()["machines"]
    name = machine["host_name"]
    frozen = own.begin("freeze", name, "--for", "600s", "--yes")
    until(lambda: agent.status() == psutil.STATUS_STOPPED, what="an agent that stands still")
    frozen.kill()
    frozen.wait(30)
    assert own.sim("heal").stdout == f"{name} moves again.\n"
    done = own.sim("kill-agent", name, "--yes")
    assert "its simulation goes on" in done.stdout
    pid = own.env.data / "machines" / machine["uuid"] / "agent.pid"
    until(lambda: pid.read_text() != f"{agent.pid}\n", what="another agent")
    assert "cannot be cut off alone" in own.sim("partition", name, "--yes").stderr


def test_nothing_but_simherds_own_is_a_target(own: Deployment) -> None:
    stranger = docker("run", "-d", "--rm", "--network", "none", BASE_IMAGE, "sleep", "600")
    name = docker("inspect", "-f", "{{.Name}}", stranger).removeprefix("/")
    try:
        for target in (name, stranger, "s3"):
            done = own.sim("freeze", target, "--yes")
            assert done.returncode == 1
            assert f"{target!r} is not a Simherd machine" in done.stderr
        assert name not in own.sim("list").stdout
    finally:
        docker("rm", "-f", stranger)
    assert (
        "'postgres' is not a Simherd Redis" in own.sim("restart-redis", "postgres", "--yes").stderr
    )
    # Another project's services are not touched either.
    wrong = own.env.cli("sim", "--project", "another", "break-storage", "--yes")
    assert "'another' is not a Docker Compose project with services of Simherd's" in wrong.stderr


def test_what_is_harmful_is_asked_and_chance_can_be_repeated(own: Deployment) -> None:
    chosen = [own.sim("reclaim", "--group", GROUP, "--seed", "7") for _ in range(2)]
    assert chosen[0].stdout == chosen[1].stdout
    assert "(--seed 7 chooses them again)" in chosen[0].stdout
    assert chosen[0].returncode == 2
    assert "say it with --yes" in chosen[0].stderr
    done = own.sim("freeze", "--group", GROUP, "--count", "9", "--yes")
    assert done.returncode == 1
    assert "count: 9 is more than the 3 machines on this host" in done.stderr
