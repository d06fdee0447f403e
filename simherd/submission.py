"""Submitting a task: checked first, then made, then its inputs uploaded."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simherd import archive, transfer
from simherd.contract.objects import INPUT_ROOT, UNCOMPRESSED
from simherd.errors import InvalidInput, SimherdError
from simherd.http import api
from simherd.resources import MachineGroup, get_by_name
from simherd.task import Task

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Submission:
    """All that makes up a task."""

    simulator: str
    alias: str | None
    image: str
    commands: list[dict[str, Any]]
    env: dict[str, str]
    input_dir: Path | None
    group: MachineGroup | str
    storage_dir: str
    project: str | None
    time_to_live_s: float | None
    max_cost: float | None
    warn_before_s: float | None
    warn_signal: str | None
    stop_grace_s: float | None
    stall_after_s: float | None
    network: bool
    compress: bool
    resubmit: bool
    checkpoint: dict[str, Any] | None
    priority: int
    remote_assets: list[str]


def submit(wanted: Submission) -> Task:
    """Make the task and upload its inputs; whatever goes wrong on the way kills it."""
    entries = archive.scan(wanted.input_dir) if wanted.input_dir is not None else []
    group = wanted.group
    if isinstance(group, str):
        group = get_by_name(group)
    if not group.started:
        raise InvalidInput(f"on: the machine group {group.name!r} is not started; start it first.")
    task_id = str(api().post("/tasks/submit", _body(wanted, group.id))["id"])
    task = Task(task_id)
    try:
        url = _upload_url(wanted.storage_dir, task_id)
        transfer.upload(url, lambda: archive.zipped(entries))
        api().post(f"/tasks/{task_id}/input_uploaded", repeatable=True)
    except BaseException:
        # What went wrong first is what the user has to know.
        with contextlib.suppress(SimherdError):
            task.kill(wait_timeout=None, verbosity_level=0)
        raise
    return task


def _body(wanted: Submission, group_id: str) -> dict[str, Any]:
    return {
        "simulator": wanted.simulator,
        "simulator_name_alias": wanted.alias,
        "resource_pool": group_id,
        "storage_path_prefix": wanted.storage_dir,
        "project": wanted.project,
        "container_image": wanted.image,
        "time_to_live_seconds": wanted.time_to_live_s,
        "max_cost": wanted.max_cost,
        "resubmit_on_preemption": wanted.resubmit,
        "input_resources": wanted.remote_assets,
        "compress_with": "AUTO" if wanted.compress else UNCOMPRESSED,
        "extra_params": {
            "sim_dir": INPUT_ROOT,
            "container_image": wanted.image,
            "commands": wanted.commands,
            "env": wanted.env,
            "warn_before_s": wanted.warn_before_s,
            "warn_signal": wanted.warn_signal,
            "stop_grace_s": wanted.stop_grace_s,
            "stall_after_s": wanted.stall_after_s,
            "network": wanted.network,
            "checkpoint": wanted.checkpoint,
        },
        "priority": wanted.priority,
    }


def _upload_url(storage_dir: str, task_id: str) -> str:
    path = f"{storage_dir}/{task_id}/input.zip"
    return str(api().get("/storage/signed-urls", operation="upload", paths=[path])[0])
