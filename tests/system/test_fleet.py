"""`make fleet` and `make fleet-down`: the compose file, as an operator sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.conftest import REPOSITORY, missing
from tests.support import stranger
from tests.support.docker import docker, has_compose
from tests.support.fleet import Fleet
from tests.support.waits import until

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
    networks = fleet.inspect(fleet.container("postgres"))["NetworkSettings"]["Networks"]
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
        host = fleet.inspect(container)["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
    for container in fleet.names():
        shown = fleet.visible_text(container)
        assert not [s for s in fleet.secrets() if s in shown], container
    assert (fleet.folder / "secrets").stat().st_mode & 0o777 == 0o700
    assert (fleet.folder / "secrets" / "connection.env").stat().st_mode & 0o777 == 0o600
    published = {name: docker("port", name) for name in fleet.names()}
    proxy = published.pop(fleet.container("proxy"))
    assert proxy.count("127.0.0.1:") == 2
    assert not any(published.values()), published


@pytest.fixture(scope="module")
def stranger_key(fleet: Fleet) -> str:
    """The key of an ordinary user, with whom the operator shares the group `fleet`."""
    assert fleet.cli("admin", "users", "create", "eve", "--email", "eve@b.c").returncode == 0
    shared = fleet.cli("admin", "groups", "share", "fleet", "--everyone")
    assert shared.returncode == 0, shared.stderr
    key: str = json.loads(fleet.cli("admin", "keys", "create", "eve", "--json").stdout)["key"]
    return key


def test_an_ordinary_user_is_refused_providers_and_what_operators_may(
    fleet: Fleet, stranger_key: str
) -> None:
    attempts = (*stranger.PROVIDERS, *stranger.OPERATORS, *stranger.PATHS, *stranger.TASKS)
    with fleet.api(stranger_key) as eve:
        group = eve.get("/compute/group/fleet").json()["id"]
        assert list(filter(None, (a.made_by(eve, fleet=group) for a in attempts))) == []


def test_an_ordinary_user_sends_the_scheduler_nowhere_inside(
    fleet: Fleet, stranger_key: str
) -> None:
    with fleet.api(stranger_key) as eve:
        for number, url in enumerate(stranger.INSIDE):
            asked = eve.post("/storage/input_remote", params={"url": url, "path": f"loot/{number}"})
            assert asked.status_code in (200, 201, 202, 422), (url, asked.text)

        def errors() -> list[str] | None:
            rows = eve.get("/v1/storage/transfers").json()
            assert not [row for row in rows if row["state"] == "done"]
            over = all(row["state"] == "failed" for row in rows)
            return [row["error"] for row in rows] if over else None

        said = until(errors, what="the end of all fetches")
        assert all("not on the public internet" in error for error in said), said
        assert eve.get("/v1/storage/files", params={"path": "loot"}).status_code == 404
    for url in stranger.INSIDE:
        asked_by = ("events", "register", "machine_group_terminated", "fleet", "--webhook", url)
        assert fleet.cli(*asked_by, key=stranger_key).returncode == 1


def test_an_ordinary_users_task_sees_no_secret_and_no_engine(
    fleet: Fleet, stranger_key: str
) -> None:
    look = stranger.LOOK.format(folder=fleet.folder / "machines")
    run = ("run", "-I", "simherd/debian:bookworm", "--on", "fleet", "-w", "--", "bash", "-c", look)
    done = fleet.cli(*run, key=stranger_key)
    assert done.returncode == 0, done.stderr
    seen = fleet.cli("logs", done.stdout.split()[0], key=stranger_key).stdout
    # After the line that repeats the command.
    assert seen.rpartition("'\n")[2].strip() == "looked", seen
    # Where there is something to be seen, the same script sees it.
    said = docker("exec", fleet.container("worker"), "bash", "-c", look)
    for found in ("sees /run/secrets/simherd_signing_key", "sees /var/run/docker.sock"):
        assert found in said
    assert "reaches redis/6379" in said


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
    host = fleet.inspect(proxy)["HostConfig"]
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
        state = fleet.inspect(container)["State"]
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
    assert fleet.remaining()
    long = fleet.cli("run", "-I", "simherd/debian:bookworm", "--on", "fleet", "--", "sleep", "600")
    assert long.returncode == 0, long.stderr
    done = fleet.script("fleet-down", "--volumes")
    assert done.returncode == 0, done.stderr
    assert fleet.remaining() == []
    assert docker("ps", "-a", "--filter", f"label=simherd.task={long.stdout.strip()}", "-q") == ""
    assert list((fleet.folder / "machines").iterdir()) == []
    assert not (fleet.folder / "secrets").exists()
    with open("/proc/mounts") as mounts:
        assert str(fleet.folder) not in mounts.read()
