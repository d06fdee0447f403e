"""`make fleet` and `make fleet-down`: the compose file, as an operator sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.conftest import REPOSITORY, missing
from tests.support.docker import docker, has_compose
from tests.support.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]

PARTS = ("api", "worker", "recorder")
PYTHON = "/opt/simherd/bin/python"
#: Says of each `host:port` whether a connection can be opened.
REACH = """
import socket, sys
for place in sys.argv[1:]:
    host, port = place.split(":")
    try:
        socket.create_connection((host, int(port)), 3).close()
        print(place, "open")
    except OSError:
        print(place, "closed")
"""
#: Writes what an API process answers to the user with a key.
TASKS = """
import sys, urllib.request
asked = urllib.request.Request("http://127.0.0.1:8000/tasks", headers={"X-API-Key": sys.argv[1]})
print(urllib.request.urlopen(asked).read().decode())
"""
#: Says how Redis answers somebody without a name.
NAMELESS = """
import redis
try:
    print(redis.Redis("redis").ping())
except redis.RedisError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def fleet(
    machine_image: str, splishsplash_image: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    if not has_compose():
        missing("there is no docker compose (apt-get install docker-compose)")
    made = Fleet(REPOSITORY, tmp_path_factory.mktemp("fleet"), machine_image)
    try:
        done = made.script("fleet")
        assert done.returncode == 0, done.stderr
        assert "Success. The outputs are in" in done.stderr
        yield made
    finally:
        if (made.folder / ".env").exists():
            made.script("fleet-down", "--volumes")


def test_a_simulation_ran_and_its_outputs_came_through_s3(fleet: Fleet) -> None:
    assert len(list((fleet.folder / "output").glob("*/vtk/*.vtk"))) == 4
    (task,) = json.loads(fleet.cli("tasks", "list", "--json").stdout)
    query = f"SELECT status FROM tasks WHERE id = '{task['task_id']}'"
    psql = ["psql", "-h", "127.0.0.1", "-U", "simherd", "-tAc", query]
    password = f"PGPASSWORD={(fleet.folder / 'secrets/postgres_password').read_text()}"
    assert docker("exec", "-e", password, fleet.container("postgres"), *psql) == "success"
    files = fleet.get("/v1/storage/files", path=task["task_id"])
    assert files
    for url in (file["url"] for file in files):
        assert url.startswith(fleet.s3_url)
        assert fleet.fetch(url).status_code == 200
        assert fleet.fetch(f"{url[:-4]}beef").status_code == 403


def test_a_machine_reaches_what_it_must_and_not_the_database(fleet: Fleet) -> None:
    networks = fleet.seen(fleet.container("postgres"))["NetworkSettings"]["Networks"]
    (address,) = (network["IPAddress"] for network in networks.values())
    database = f"{address}:5432"
    wanted = ("redis:6379", "api:8000", "s3:8333")
    machine = fleet.machine()
    said = docker("exec", machine, PYTHON, "-c", REACH, *wanted, database).splitlines()
    assert said == [*(f"{w} open" for w in wanted), f"{database} closed"]
    assert "authenticate" in docker("exec", machine, PYTHON, "-c", NAMELESS)
    # The same question from where it is to be answered otherwise.
    from_worker = docker("exec", fleet.container("worker"), PYTHON, "-c", REACH, database)
    assert from_worker == f"{database} open"


def test_nobody_is_root_and_no_secret_is_to_be_seen(fleet: Fleet) -> None:
    for part, user in (("redis", "999"), ("postgres", "999"), *((p, "10000") for p in PARTS)):
        container = fleet.container(part)
        assert docker("exec", container, "id", "-u") == user
        host = fleet.seen(container)["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
    for container in fleet.names():
        shown = fleet.shown(container)
        assert not [s for s in fleet.secrets() if s in shown], container
    assert (fleet.folder / "secrets").stat().st_mode & 0o777 == 0o700
    assert (fleet.folder / "secrets" / "connection.env").stat().st_mode & 0o777 == 0o600
    published = {name: docker("port", name) for name in fleet.names()}
    proxy = published.pop(fleet.container("proxy"))
    assert proxy.count("127.0.0.1:") == 2
    assert not any(published.values()), published


def test_there_are_as_many_processes_as_its_settings_say(fleet: Fleet) -> None:
    assert [len(fleet.containers(part)) for part in PARTS] == [2, 2, 2]
    # Each of them answers, and says the same.
    (known,) = json.loads(fleet.cli("tasks", "list", "--json").stdout)
    for container in fleet.containers("api"):
        (task,) = json.loads(docker("exec", container, PYTHON, "-c", TASKS, fleet.key))["tasks"]
        assert task["task_id"] == known["task_id"]


def test_the_proxy_alone_is_reached_from_outside_and_speaks_tls(fleet: Fleet) -> None:
    proxy = fleet.container("proxy")
    assert docker("exec", proxy, "id", "-u") == "33"
    host = fleet.seen(proxy)["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    answer = fleet.fetch(f"{fleet.url}/livez")
    assert answer.headers["Strict-Transport-Security"]
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{fleet.url}/livez", trust_env=False)
    plain = httpx.get(f"{fleet.url}/livez".replace("https", "http"), trust_env=False)
    assert plain.status_code == 400


def test_parts_end_when_they_are_told_and_know_everything_afterwards(fleet: Fleet) -> None:
    containers = [container for part in PARTS for container in fleet.containers(part)]
    docker("stop", "--time", "50", *containers)
    for container in containers:
        state = fleet.seen(container)["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", 0), container
    keys = (fleet.folder / "secrets/simherd_bootstrap_key").read_text()

    done = fleet.script("fleet")

    assert done.returncode == 0, done.stderr
    assert (fleet.folder / "secrets/simherd_bootstrap_key").read_text() == keys
    assert [len(fleet.containers(part)) for part in PARTS] == [2, 2, 2]
    tasks = json.loads(fleet.cli("tasks", "list", "--json").stdout)
    assert [task["status"] for task in tasks] == ["success", "success"]
    assert len(docker("ps", "--filter", f"name={fleet.machine()}", "-q").split()) == 1


def test_nothing_is_left_when_it_is_down(fleet: Fleet) -> None:
    assert fleet.left()
    long = fleet.cli("run", "-I", "simherd/debian:bookworm", "--on", "fleet", "--", "sleep", "600")
    assert long.returncode == 0, long.stderr
    done = fleet.script("fleet-down", "--volumes")
    assert done.returncode == 0, done.stderr
    assert fleet.left() == []
    assert docker("ps", "-a", "--filter", f"label=simherd.task={long.stdout.strip()}", "-q") == ""
    assert list((fleet.folder / "machines").iterdir()) == []
    assert not (fleet.folder / "secrets").exists()
    with open("/proc/mounts") as mounts:
        assert str(fleet.folder) not in mounts.read()
