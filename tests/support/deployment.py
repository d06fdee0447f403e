"""A deployment on this host's engine, for drills: an S3 store, a network, a Simherd."""

from __future__ import annotations

import functools
import subprocess
import sys
import uuid
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from simherd.contract import labels
from tests.support.env import Done, Env, redis_port
from tests.support.proxy import Proxy
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_S3_PORT = 5000


#: The group of machines that are containers.
GROUP = "fleet"


class Deployment:
    """What was started, as its operator has it."""

    def __init__(self, project: str, env: Env) -> None:
        self.project = project
        self.env = env
        self._begun: list[subprocess.Popen[bytes]] = []
        self._sim = ("sim", "--data-dir", str(env.data), "--project", project)

    def sim(self, *arguments: str) -> Done:
        """Run `simherd sim`."""
        return self.env.cli(*self._sim, *arguments)

    def begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        """The same in the background."""
        argv = [sys.executable, "-m", "simherd.cli.main", *self._sim, *arguments]
        environment = {**self.env.environment, **self.env.connection}
        begun = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL)
        self._begun.append(begun)
        return begun

    def heal(self) -> None:
        """Whatever a test that failed has left broken."""
        for begun in self._begun:
            begun.kill()
            begun.wait()
        self.sim("heal")

    def machines(self) -> list[dict[str, Any]]:
        """The machines of the group that have joined and were heard of last, by name."""
        found = self.env.api.get(f"/compute/group/{GROUP}").json()["machines"]
        return sorted((m for m in found if m["status"] == "started"), key=lambda m: m["host_name"])

    def start_group(self) -> None:
        """Start the group, and wait for its machines."""
        more = {"provider": "docker", "num_vms": 3, "spot": True, "max_idle_time": None}
        self.env.start_group(GROUP, **more)

    def end_group(self) -> None:
        """End the group, and wait until nothing of it is left."""
        group = self.env.api.get(f"/compute/group/{GROUP}").json()
        self.env.api.delete("/compute/group", params={"machine_group_id": group["id"]})
        until(
            lambda: self.env.api.get(f"/compute/group/{GROUP}").json()["status"] == "terminated",
            what="the end of the group",
        )


def docker(*argv: str) -> str:
    """What the engine's command line prints."""
    done = subprocess.run(["docker", *argv], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@contextmanager
def deployment(folder: Path, image: str, base: str) -> Iterator[Deployment]:
    """A Simherd on a separate disk, whose machines have a separate network.

    What Docker Compose would start has its labels: an S3 store, and something of our image.
    """
    project = f"drills-{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        stack.enter_context(_disk(folder))
        gateway = stack.enter_context(_network(project))
        where = stack.enter_context(_s3(project, base))
        stack.enter_context(_service(project, "worker", (), image, "sleep", "infinity"))
        password = folder / "data" / "run" / "redis_password"
        password.parent.mkdir(parents=True, mode=0o700)
        password.write_text("known")
        # Asked once: Redis has the same port when it comes back, and none while it is away.
        port = functools.cache(lambda: redis_port(folder / "data"))
        redis = Proxy(lambda: ("127.0.0.1", port()), gateway)
        stack.callback(redis.close)
        env = Env(
            folder,
            *("--backend", "process", "--host", gateway),
            **where,
            SIMHERD_DOCKER_IMAGE=image,
            SIMHERD_DOCKER_NETWORK=project,
            SIMHERD_GRACE_S="6",
            SIMHERD_PROVIDERS="local,docker",
            SIMHERD_MACHINES_REDIS_URL=f"redis://:known@{gateway}:{redis.port}/0",
            SIMHERD_SWEEP_S="1",
        )
        stack.callback(env.stop)
        made = Deployment(project, env.start())
        stack.callback(made.end_group)
        stack.callback(made.heal)
        made.start_group()
        yield made


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """The folder is a separate file system, and containers share what is mounted in it."""
    file = folder.with_suffix(".disk")
    with file.open("wb") as out:
        out.truncate(8 * 1024**3)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", file], check=True)
    subprocess.run(["mount", "-o", "loop", file, folder], check=True)
    try:
        subprocess.run(["mount", "--make-shared", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)
        file.unlink()


@contextmanager
def _network(name: str) -> Iterator[str]:
    """A network of the engine; the host's address in it."""
    docker("network", "create", name)
    try:
        yield docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", name)
    finally:
        docker("network", "rm", name)


@contextmanager
def _service(project: str, name: str, more: Sequence[str], image: str, *argv: str) -> Iterator[str]:
    """A container with the labels of a project's service, and some `more`; its id."""
    marks = (f"{labels.COMPOSE_PROJECT}={project}", f"{labels.COMPOSE_SERVICE}={name}", *more)
    options = [word for mark in marks for word in ("--label", mark)]
    # With this host's files: so it has the Python that runs the tests, and its packages.
    options += ["-v", "/:/host:ro", "--network", project]
    made = docker("run", "-d", *options, image, *argv)
    try:
        yield made
    finally:
        docker("rm", "-f", "-v", made)


@contextmanager
def _s3(project: str, base: str) -> Iterator[dict[str, str]]:
    """An S3 store with a bucket; the environment that leads to it."""
    moto = ("-m", "moto.server", "-H", "0.0.0.0", "-p", str(_S3_PORT))
    argv = ("chroot", "/host", sys.executable, *moto)
    marks = (f"{labels.SERVICE}={labels.STORAGE}",)
    with _service(project, "s3", marks, base, *argv) as container:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        address = docker("inspect", "-f", form, container)
        where = {
            "SIMHERD_S3_BUCKET": "drills",
            "SIMHERD_S3_ENDPOINT_URL": f"http://{address}:{_S3_PORT}",
            "SIMHERD_S3_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        until(lambda: _bucket(where), what="the S3 store")
        yield where


def _bucket(where: dict[str, str]) -> bool:
    client = boto3.client(
        "s3",
        endpoint_url=where["SIMHERD_S3_ENDPOINT_URL"],
        region_name=where["SIMHERD_S3_REGION"],
        aws_access_key_id=where["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=where["AWS_SECRET_ACCESS_KEY"],
    )
    try:
        client.create_bucket(Bucket=where["SIMHERD_S3_BUCKET"])
    except (BotoCoreError, ClientError):
        return False
    finally:
        client.close()
    return True
