"""An API process as a deployment starts it, and clients that speak HTTP badly."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

import httpx
import psutil

from scheduler.domain.limits import LEAST_SIGNING_KEY
from scheduler.services.accounts.admin_users import create_user
from scheduler.services.accounts.users import create_key
from scheduler.store.engine import Store, migrate, open_engine
from simherd.local.stack import free_port
from tests.support.mortal import mortal
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class ApiProcess:
    """`simherd-scheduler api` with its database in a folder."""

    def __init__(self, folder: Path, redis_url: str, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "api.log"
        database = f"sqlite:///{folder / 'api.db'}"
        self._folder = folder
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("SIMHERD_")},
            "SIMHERD_DATABASE_URL": database,
            "SIMHERD_REDIS_URL": redis_url,
            "SIMHERD_BROKER_URL": f"{redis_url.removesuffix('/0')}/1",
            "SIMHERD_SIGNING_KEY": "k" * LEAST_SIGNING_KEY,
            "SIMHERD_STORAGE_DIR": str(folder / "storage"),
            "SIMHERD_PUBLIC_URL": self.url,
            "SIMHERD_PORT": str(self.port),
            **settings,
        }
        migrate(database)
        self.store = Store(open_engine(database))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> ApiProcess:
        """Start it, and wait until it responds."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                mortal([sys.executable, "-m", "scheduler", "api"]),
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        until(self._answers, what=f"the API, see {self.log}")
        return self

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/livez", trust_env=False).is_success
        return False

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    def new_user(self, name: str) -> str:
        """A user's key."""
        with self.store.write() as session:
            user = create_user(session, "test", name, f"{name}@localhost")
            return create_key(session, user.id, "test")

    def client(self, key: str = "", **headers: str) -> httpx.Client:
        """A client of it, with this key."""
        shown = {"X-API-Key": key} if key else {}
        return httpx.Client(
            base_url=self.url, headers={**shown, **headers}, timeout=30, trust_env=False
        )

    @property
    def memory(self) -> int:
        """Bytes of memory that the process has (RSS)."""
        assert self._process is not None
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def connect(self) -> socket.socket:
        """A connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


@contextmanager
def api_process(folder: Path, redis_url: str, **settings: str) -> Iterator[ApiProcess]:
    """An API process that responds, and ends."""
    made = ApiProcess(folder, redis_url, **settings)
    try:
        yield made.start()
    finally:
        made.stop()


def head(request: str, **headers: object) -> bytes:
    """The head of a request: "POST /path"; names of headers have _ for -."""
    lines = [f"{request} HTTP/1.1", "Host: x"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def response_to(connection: socket.socket, data: bytes) -> bytes:
    """All that comes back until the other end closes the connection."""
    with closing(connection):
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def status_of(connection: socket.socket, data: bytes) -> int:
    """The status of the response to what is sent, as soon as it is there."""
    with closing(connection):
        connection.sendall(data)
        said = b""
        while b"\r\n" not in said:
            piece = connection.recv(65536)
            assert piece, said
            said += piece
        return int(said.split(b" ", 2)[1])
