"""A `simherd up` with the process backend, measured from outside."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Any

import httpx

from bench.stamps import stamp_command, wait_for_stamp
from simherd.contract.lifecycle import TERMINAL, Status
from simherd.transfers import input_archive

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

#: Requests of one submission run beside others by so many threads.
_SUBMITTERS = 4
_START_S = 60
_COMPUTING = Status.COMPUTATION_STARTED.value


class SimherdSide:
    """Starts Simherd with one machine that has `slots`; stops it at the end."""

    def __init__(self, folder: Path, slots: int) -> None:
        self._folder, self._slots = folder, slots
        self._body = b"".join(input_archive.zipped([]))

    def __enter__(self) -> SimherdSide:
        environment = {
            **os.environ,
            "XDG_CONFIG_HOME": str(self._folder / "config"),
            # All tasks wait before the first one runs, however many are asked for.
            "SIMHERD_DEFAULT_QUOTAS": json.dumps({"max_queued_tasks": None}),
        }
        argv = [sys.executable, "-m", "simherd.cli.main", "up", "--port", "0"]
        argv += ["--backend", "process", "--slots", str(self._slots)]
        argv += ["--data-dir", str(self._folder / "data")]
        with (self._folder / "up.log").open("wb") as log:
            self._process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
        connection = self._folder / "data" / "connection.env"
        end = time.monotonic() + _START_S
        while not connection.exists():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self._folder / "up.log").read_text())
            time.sleep(0.05)
        pairs = dict(line.split("=", 1) for line in connection.read_text().split())
        #: For everything that is measured from outside.
        self.api = httpx.Client(
            base_url=pairs["SIMHERD_API_URL"],
            headers={"X-API-Key": pairs["SIMHERD_API_KEY"]},
            timeout=60,
            trust_env=False,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)

    def latency(self, count: int) -> tuple[list[float], list[float]]:
        """Seconds to a task's own process, from its submission and from its input's arrival."""
        group = self.api.get("/compute/group/local").json()["id"]
        whole, queued = [], []
        for number in range(count + 1):
            stamp = self._folder / f"stamp-{number}"
            began = time.time()
            task = self._submit(group, stamp_command(stamp))
            uploaded = time.time()
            self._queue(task)
            started = wait_for_stamp(stamp)
            self.wait(task)
            if number:  # the first one also opens connections and loads code
                whole.append(started - began)
                queued.append(started - uploaded)
        return whole, queued

    def throughput(self, count: int) -> tuple[float, float]:
        """Tasks submitted a second, and then run a second, from the first start to the last end."""
        body = {"machine_type": "local", "provider_id": "LOCAL", "name": f"bench-{self._slots}"}
        group = self.api.post("/compute/group", json=body).json()["id"]
        began = time.monotonic()

        def one(_number: int) -> str:
            task = self._submit(group, ["true"])
            self._queue(task)
            return task

        with ThreadPoolExecutor(_SUBMITTERS) as pool:
            tasks = list(pool.map(one, range(count)))
        submitted = count / (time.monotonic() - began)
        self.api.post("/compute/group/start", params={"machine_group_id": group})
        while (
            self.api.get("/projects/default")
            .json()["task_status_overview"]
            .get(Status.SUBMITTED.value)
        ):
            time.sleep(0.5)
        ends = [self.wait(task) for task in tasks]
        starts = [datetime.fromisoformat(t["start_time"]) for t in ends]
        last = max(datetime.fromisoformat(t["end_time"]) for t in ends)
        good = sum(t["status"] == Status.SUCCESS for t in ends)
        if good != count:
            print(f"only {good} of {count} tasks ended with success")
        return submitted, count / (last - min(starts)).total_seconds()

    def _submit(self, group: str, argv: list[str]) -> str:
        body = {
            "simulator": "arbitrary_commands",
            "resource_pool": group,
            "container_image": "bench",
            "extra_params": {"commands": [{"cmd": shlex.join(argv)}]},
        }
        task = str(self.api.post("/tasks/submit", json=body).raise_for_status().json()["id"])
        query = {"operation": "upload", "paths": f"{task}/input.zip"}
        (url,) = self.api.get("/storage/signed-urls", params=query).json()
        self.api.put(url, content=self._body).raise_for_status()
        return task

    def _queue(self, task: str) -> None:
        self.api.post(f"/tasks/{task}/input_uploaded").raise_for_status()

    @property
    def data(self) -> Path:
        """Where it keeps everything."""
        return self._folder / "data"

    def run(self, argv: list[str]) -> str:
        """Submit a task to the group that is up and return its id."""
        group = self.api.get("/compute/group/local").json()["id"]
        task = self._submit(group, argv)
        self._queue(task)
        return task

    def kill(self, task: str) -> None:
        """Ask for a task to be killed."""
        self.api.post(f"/tasks/{task}/kill").raise_for_status()

    def wait_for_start(self, task: str) -> None:
        """Wait until a task computes, and its shell has set its trap."""
        while self.api.get(f"/tasks/{task}/status").json()["status"] != _COMPUTING:
            time.sleep(0.02)
        time.sleep(0.2)

    def wait(self, task: str) -> dict[str, Any]:
        """Wait until a task has ended and return everything about it."""
        while True:
            found: dict[str, Any] = self.api.get(f"/tasks/{task}").json()
            if Status(found["status"]) in TERMINAL:
                return found
            time.sleep(0.02)
