"""Machines that are containers, on a real engine. What runs in them waits to be stopped."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from scheduler.config import Settings
from scheduler.providers.base import (
    LaunchRefused,
    LaunchTicket,
    MachinePlan,
    MachineState,
    NoCapacity,
)
from scheduler.providers.docker import DockerProvider
from scheduler.wiring import Runtime
from tests.conftest import BASE_IMAGE, missing
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.docker

TOKEN = "the-secret-token"
#: Says whether an attempt's disk is a hard one, and where it lies.
MAKE_AREA = """
import pathlib, sys
from executor.machine.volumes import choose_disk
disk = choose_disk(pathlib.Path(sys.argv[1]), 64 * 1024**2)
print(disk.name, disk.make("task-1", 64 * 1024**2).folder.resolve())
"""


@pytest.fixture
def deployment() -> str:
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "machines"


@pytest.fixture
def provider(machine_image: str, root: Path, deployment: str) -> Iterator[DockerProvider]:
    """With the real image; its containers run nothing but a wait that a signal ends."""
    made = make(machine_image, root, deployment)
    yield made
    for machine in list(made.list_machines()):
        end(made, machine.machine_id)


def make(image: str, root: Path, deployment: str, *command: str) -> DockerProvider:
    return DockerProvider(root, image, "host", deployment, command or ("sleep", "infinity"))


def end(provider: DockerProvider, machine_id: str, *, force: bool = True) -> None:
    until(lambda: provider.terminate(machine_id, {}, force=force), what="the machine's end")


def plan() -> MachinePlan:
    return MachinePlan(
        machine_id=f"m-{secrets.token_hex(4)}",
        group_id="g-1",
        name="machine",
        machine_type="local",
        zone="local-a",
        spot=False,
        vcpus=1,
        memory_bytes=1024**3,
        disk_size_gb=10,
        ticket=LaunchTicket("http://127.0.0.1:8000", TOKEN),
    )


def docker(*argv: str) -> str:
    done = subprocess.run(["docker", *argv], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def inspect(wanted: MachinePlan) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("inspect", container(wanted)))[0]
    return found


def container(wanted: MachinePlan) -> str:
    return f"simherd-machine-{wanted.machine_id}"


def seen(provider: DockerProvider, wanted: MachinePlan) -> MachineState:
    return provider.observe({wanted.machine_id: {}})[wanted.machine_id]


def test_a_machine_is_seen_and_found_until_it_is_terminated(
    provider: DockerProvider, root: Path
) -> None:
    wanted = plan()
    assert seen(provider, wanted) is MachineState.GONE

    handle = provider.launch(wanted)

    assert seen(provider, wanted) is MachineState.RUNNING
    [found] = provider.list_machines()
    assert (found.machine_id, found.group_id, found.handle) == (wanted.machine_id, "g-1", handle)

    end(provider, wanted.machine_id, force=False)

    assert seen(provider, wanted) is MachineState.GONE
    assert list(provider.list_machines()) == []
    assert not (root / wanted.machine_id).exists()
    assert provider.terminate(wanted.machine_id, handle, force=False), "not once more"


def test_many_are_observed_at_once(provider: DockerProvider) -> None:
    here, away = plan(), plan()
    provider.launch(here)

    assert provider.observe({here.machine_id: {}, away.machine_id: {}}) == {
        here.machine_id: MachineState.RUNNING,
        away.machine_id: MachineState.GONE,
    }


def test_launched_twice_is_one(provider: DockerProvider) -> None:
    wanted = plan()
    first = provider.launch(wanted)
    started = inspect(wanted)["Id"]

    assert provider.launch(wanted) == first
    assert inspect(wanted)["Id"] == started
    assert len(list(provider.list_machines())) == 1


def test_killed_from_outside_is_gone_and_can_be_launched_again(
    provider: DockerProvider, root: Path
) -> None:
    wanted = plan()
    provider.launch(wanted)
    (root / wanted.machine_id / "journal").write_text("kept")

    docker("kill", container(wanted))

    until(lambda: seen(provider, wanted) is MachineState.GONE)
    assert [found.machine_id for found in provider.list_machines()] == [wanted.machine_id]
    provider.launch(wanted)
    assert seen(provider, wanted) is MachineState.RUNNING
    assert (root / wanted.machine_id / "journal").read_text() == "kept"


def test_of_another_deployment_is_not_ours(
    provider: DockerProvider, machine_image: str, root: Path
) -> None:
    provider.launch(plan())

    assert list(make(machine_image, root, "another").list_machines()) == []


@pytest.mark.parametrize("force", [False, True])
def test_what_a_machine_leaves_running_goes_with_it(provider: DockerProvider, force: bool) -> None:
    wanted = plan()
    provider.launch(wanted)
    label = f"simherd.executor={wanted.machine_id}"
    docker("run", "-d", "--network", "none", "--label", label, BASE_IMAGE, "sleep", "infinity")

    end(provider, wanted.machine_id, force=force)

    assert docker("ps", "-aq", "--filter", f"label={label}") == ""


def test_the_ticket_is_for_the_machine_alone(provider: DockerProvider, root: Path) -> None:
    wanted = plan()
    provider.launch(wanted)

    file = root / wanted.machine_id / "ticket.json"
    assert json.loads(file.read_text()) == {"api_url": "http://127.0.0.1:8000", "token": TOKEN}
    assert file.stat().st_mode & 0o777 == 0o600
    assert docker("exec", container(wanted), "sh", "-c", 'cat "$SIMHERD_TICKET_FILE"') == (
        file.read_text()
    )
    assert TOKEN not in json.dumps(inspect(wanted))


def test_in_a_network_of_its_own_it_cannot_set_a_guard_that_guards_nothing(
    machine_image: str, root: Path, deployment: str
) -> None:
    provider = DockerProvider(root, machine_image, "bridge", deployment, ("sleep", "infinity"))
    wanted = plan()
    provider.launch(wanted)

    argv = ["docker", "exec", container(wanted), "iptables", "-t", "raw", "-S"]
    guard = subprocess.run(argv, capture_output=True, text=True, check=False)

    end(provider, wanted.machine_id)
    assert guard.returncode != 0
    assert "Permission denied" in guard.stderr


def test_the_image_starts_the_agent(machine_image: str, root: Path, deployment: str) -> None:
    provider = DockerProvider(root, machine_image, "host", deployment)
    wanted = plan()
    provider.launch(wanted)

    # Nobody answers its ticket here: it says so, and goes on asking.
    until(lambda: "event=join_waits" in docker_logs(wanted), what="the agent's words")
    end(provider, wanted.machine_id)


def test_an_agent_that_is_killed_comes_back_and_one_that_is_told_to_stop_does_not(
    machine_image: str, root: Path, deployment: str
) -> None:
    # In place of the agent: a process that says when it starts, and what it was started beside.
    script = "[ -e beside ] || { touch beside; sleep infinity & }; echo started $$; exec sleep 600"
    provider = make(machine_image, root, deployment, "sh", "-c", script)
    wanted = plan()
    provider.launch(wanted)

    def pids() -> list[str]:
        return [line.split()[1] for line in docker_logs(wanted).splitlines() if "started" in line]

    (first,) = until(lambda: pids(), what="the first one")
    docker("exec", container(wanted), "sh", "-c", f"kill -KILL {first}")

    until(lambda: len(pids()) == 2, what="the second one")
    assert seen(provider, wanted) is MachineState.RUNNING
    top = ("top", container(wanted), "-o", "pid,args")
    until(lambda: "sleep infinity" in docker(*top), what="what it was started beside")
    end(provider, wanted.machine_id, force=False)
    assert seen(provider, wanted) is MachineState.GONE


def docker_logs(wanted: MachinePlan) -> str:
    argv = ["docker", "logs", container(wanted)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def test_without_the_image_it_says_what_makes_it(
    docker_engine: None, root: Path, deployment: str
) -> None:
    with pytest.raises(LaunchRefused, match="scripts/machine-image"):
        make("simherd/no-such-image:local", root, deployment).launch(plan())


def test_while_the_engine_is_away_nothing_is_known(
    root: Path, deployment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{root}/no.sock")
    wanted, away = plan(), make("unused", root, deployment)

    assert seen(away, wanted) is MachineState.UNKNOWN
    assert list(away.list_machines()) == []
    assert not away.terminate(wanted.machine_id, {}, force=True)
    with pytest.raises(NoCapacity):
        away.launch(wanted)


def test_the_settings_lead_to_it(root: Path) -> None:
    rt = Runtime(
        Settings(
            database_url="sqlite://",
            redis_url="redis://unused",
            broker_url="redis://unused",
            signing_key="key",
            machines_dir=root,
        )
    )
    assert isinstance(rt.providers["docker"], DockerProvider)
    assert set(rt.providers) >= {"local", "docker"}


def mounts_below(folder: Path) -> list[str]:
    with open("/proc/self/mounts") as file:
        return [line for line in file if line.split()[1].startswith(f"{folder}/")]


@pytest.fixture
def shared_root(root: Path) -> Iterator[Path]:
    """A folder whose mounts containers and host share, as systemd has it everywhere."""
    if os.geteuid() != 0:
        missing("only root can mount")
    root.mkdir()
    subprocess.run(["mount", "--bind", root, root], check=True)
    subprocess.run(["mount", "--make-shared", root], check=True)
    yield root
    subprocess.run(["umount", root], check=True)


def make_area(wanted: MachinePlan, root: Path) -> list[str]:
    """The kind of an attempt's disk in the machine, and its folder."""
    argv = ("/opt/simherd/bin/python", "-c", MAKE_AREA, str(root / wanted.machine_id))
    return docker("exec", container(wanted), *argv).split()


def test_a_hard_disk_limit_holds_for_siblings_and_nothing_stays_mounted(
    shared_root: Path, provider: DockerProvider
) -> None:
    wanted = plan()
    provider.launch(wanted)

    kind, folder = make_area(wanted, shared_root)
    assert kind == "loop"
    images = docker("info", "-f", "{{.DockerRootDir}}")
    assert docker("exec", container(wanted), "stat", "-f", "-c", "%b", images) == str(
        os.statvfs(images).f_blocks
    )
    write = "dd if=/dev/zero of=/w/big bs=1M count=100 2>&1 || true; stat -c %s /w/big"
    said = docker(
        *("run", "--rm", "--network", "none", "-v", f"{folder}:/w", BASE_IMAGE, "sh", "-c", write)
    )
    assert "No space left" in said
    assert int(said.split()[-1]) < 64 * 1024**2
    assert mounts_below(shared_root)

    end(provider, wanted.machine_id)

    assert mounts_below(shared_root) == []
    assert list(shared_root.iterdir()) == []


def test_where_mounts_are_not_shared_the_disk_is_watched(
    root: Path, provider: DockerProvider
) -> None:
    if os.geteuid() != 0:
        missing("only root can mount")
    root.mkdir()
    subprocess.run(["mount", "--bind", root, root], check=True)
    try:
        subprocess.run(["mount", "--make-private", root], check=True)
        wanted = plan()
        provider.launch(wanted)

        kind, _ = make_area(wanted, root)
        end(provider, wanted.machine_id)
    finally:
        subprocess.run(["umount", root], check=True)
    assert kind == "watched"
