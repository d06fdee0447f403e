"""A Simherd with a group of machines that are containers, and what befalls them."""

from __future__ import annotations

import contextlib
import io
import json
import time
import zipfile
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import docker
from docker.errors import APIError

from simherd.contract.labels import HOLDER, MACHINE
from simherd.contract.lifecycle import TERMINAL, Status
from simherd.transfers import input_archive

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import httpx

_GROUP = "fleet"
_IMAGE = "simherd/debian:bookworm"
_SCRIPT = "simulation.sh"


@dataclass(frozen=True)
class Work:
    """What each task does: steps, seconds of one, steps between two checkpoints."""

    steps: int
    step_s: float
    every: int


class Fleet:
    """An elastic group of spot machines, 1 to `largest`."""

    def __init__(self, api: httpx.Client, data: Path, largest: int, reconnect_s: float) -> None:
        self._api, self._data = api, data
        self._engine = docker.from_env()
        made = api.post(
            "/compute/group",
            json={
                "machine_type": "local",
                "provider_id": "LOCAL",
                "provider": "docker",
                "name": _GROUP,
                "spot": True,
                "is_elastic": True,
                "min_vms": 1,
                "max_vms": largest,
                "reconnect_s": reconnect_s,
                "max_idle_time": None,
            },
        ).raise_for_status()
        self.id = str(made.json()["id"])
        api.post("/compute/group/start", params={"machine_group_id": self.id}).raise_for_status()

    def submit(self, work: Work) -> str:
        """Send a task and return its id."""
        body = {
            "simulator": "arbitrary_commands",
            "resource_pool": self.id,
            "container_image": f"docker://{_IMAGE}",
            "resubmit_on_preemption": True,
            "extra_params": {
                "commands": [{"cmd": f"sh {_SCRIPT}"}],
                "env": {
                    "STEPS": str(work.steps),
                    "STEP": str(work.step_s),
                    "EVERY": str(work.every),
                },
                "checkpoint": {"files": ["checkpoint/*"], "every_s": 1},
                "stop_grace_s": 5,
            },
        }
        task = str(self._api.post("/tasks/submit", json=body).raise_for_status().json()["id"])
        query = {"operation": "upload", "paths": f"{task}/input.zip"}
        (url,) = self._api.get("/storage/signed-urls", params=query).json()
        script = files(__package__).joinpath(_SCRIPT).read_bytes()
        self._api.put(url, content=_input({_SCRIPT: script})).raise_for_status()
        self._api.post(f"/tasks/{task}/input_uploaded").raise_for_status()
        return task

    def group(self) -> dict[str, Any]:
        """The group with its machines."""
        found: dict[str, Any] = self._api.get(f"/compute/group/{_GROUP}").json()
        return found

    def started(self) -> list[dict[str, Any]]:
        """The machines that are there and work, or could."""
        return [m for m in self.group()["machines"] if m["status"] == "started"]

    def task(self, task: str) -> dict[str, Any]:
        """Everything about a task."""
        found: dict[str, Any] = self._api.get(f"/tasks/{task}").json()
        return found

    def attempts(self, task: str) -> list[dict[str, Any]]:
        """A task's attempts, first one first."""
        found: list[dict[str, Any]] = self._api.get(f"/v1/tasks/{task}/attempts").json()
        return found

    def statuses(self) -> dict[str, int]:
        """How many tasks stand where."""
        found: dict[str, int] = self._api.get("/projects/default").json()["task_status_overview"]
        return found

    def outputs(self, task: str) -> dict[str, bytes]:
        """A task's output files."""
        path = self.task(task)["storage_output_path"]
        query = {"operation": "download", "paths": path}
        (url,) = self._api.get("/storage/signed-urls", params=query).json()
        with zipfile.ZipFile(io.BytesIO(self._api.get(url).content)) as found:
            return {
                name.removeprefix("artifacts/"): found.read(name)
                for name in found.namelist()
                if not name.endswith("/")
            }

    def give_notice(self, machine: str, in_s: float) -> None:
        """Notify a machine that it is reclaimed, as its cloud would."""
        notice = self._data / "machines" / machine / "spot-notice"
        written = notice.with_suffix(".new")
        written.write_text(json.dumps({"in_s": in_s}))
        written.replace(notice)

    def freeze(self, machine: str) -> None:
        """Let a machine stand still, with all that it runs."""
        for container in self._containers(machine):
            with contextlib.suppress(APIError):
                container.pause()

    def take_away(self, machine: str) -> None:
        """Let a machine be gone at once, with all that it runs."""
        for container in self._containers(machine):
            with contextlib.suppress(APIError):
                container.kill()

    def _containers(self, machine: str) -> Iterable[Any]:
        # The agent first: it must not learn what becomes of the others.
        for label in (MACHINE, HOLDER):
            yield from self._engine.containers.list(filters={"label": f"{label}={machine}"})

    def computed(self, machine: str) -> dict[tuple[str, int], int]:
        """What runs on a machine: task and attempt → the last step that it has computed."""
        found = {}
        for log in (self._data / "machines" / machine / "attempts").glob("*/work/steps.log"):
            task, _, attempt = log.parts[-3].rpartition("-")
            lines = log.read_text().splitlines()
            if lines:
                found[task, int(attempt)] = int(lines[-1].split()[1])
        return found

    def terminate(self) -> None:
        """End the group, and wait until it has."""
        self._api.delete("/compute/group", params={"machine_group_id": self.id})
        while self.group()["status"] != "terminated":
            time.sleep(0.2)


def ended(task: dict[str, Any]) -> bool:
    """Whether a task has ended."""
    return Status(task["status"]) in TERMINAL


def _input(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO(b"".join(input_archive.zipped([])))
    with zipfile.ZipFile(buffer, "a") as out:
        for name, data in contents.items():
            out.writestr(f"sim_dir/{name}", data)
    return buffer.getvalue()
