"""Submitting tasks: checked first, then made, then their inputs uploaded."""

from __future__ import annotations

import contextlib
import functools
import secrets
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from simherd.contract import limits
from simherd.contract.lifecycle import Status
from simherd.contract.objects import INPUT_ROOT, UNCOMPRESSED
from simherd.errors import InvalidInput, SimherdError
from simherd.http import api
from simherd.resources import MachineGroup, look_up
from simherd.shared_inputs import store_shared
from simherd.task import Task
from simherd.transfers import input_archive, signed_url
from simherd.transfers.download import Total, progress_bar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from simherd.transfers.input_archive import InputEntry

#: Inputs that are uploaded at one time.
_UPLOADS = 8
#: Inputs after which those tasks are queued that have theirs.
_REPORT_BATCH = 50


@dataclass(frozen=True)
class Submission:
    """All that makes up a task."""

    simulator: str
    alias: str | None
    image: str
    commands: list[dict[str, Any]]
    env: dict[str, str]
    input_dir: Path | None
    #: None: the default, see `resources.get_default`.
    group: MachineGroup | str | None
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
    #: A folder of inputs that several tasks have: it is uploaded once.
    shared_dir: Path | None = None
    #: More input files: name → content.
    files: Mapping[str, bytes] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: What this submission is called: a repeated one makes no second task.
    client_key: str | None = None


def submit(wanted: Submission) -> Task:
    """Make the task and upload its inputs; whatever goes wrong on the way kills it."""
    (task,) = submit_all([wanted])
    return task


def submit_all(wanted: Sequence[Submission]) -> list[Task]:
    """Make all of these tasks, or none, and upload their inputs.

    What several of them share is uploaded once. Should an upload fail, those tasks are killed that
    have not got their inputs, but for those with a key of the user's own: these go on when they are
    submitted again.
    """
    inputs = [_entries(one) for one in wanted]
    groups = _groups(wanted)
    shared = {folder: store_shared(folder) for folder in {w.shared_dir for w in wanted} if folder}
    bodies = [
        _body(one, groups[_group_name(one)], shared, has_input=_has_input(one, entries))
        for one, entries in zip(wanted, inputs, strict=True)
    ]
    keys = [one.client_key for one in wanted]
    tasks: list[Task] = []
    for start in range(0, len(bodies), limits.MAX_BATCH):
        some = slice(start, start + limits.MAX_BATCH)
        tasks += _submit_batch(bodies[some], inputs[some], keys[some])
    return tasks


def _submit_batch(
    bodies: list[dict[str, Any]], inputs: Sequence[list[InputEntry]], keys: Sequence[str | None]
) -> list[Task]:
    # Every one has a key, so that asking again is harmless.
    made = api().post("/v1/tasks/batch", {"tasks": bodies}, repeatable=True)
    waiting = [
        _Waiting(row["id"], body["storage_path_prefix"], row["upload_url"], entries)
        for row, body, entries in zip(made, bodies, inputs, strict=True)
        if row["status"] == Status.PENDING_INPUT
    ]
    try:
        _upload(waiting)
    except BaseException:
        # One that the user has named is not killed: the same submission goes on with it.
        named = {row["id"] for row, key in zip(made, keys, strict=True) if key is not None}
        for one in waiting:
            if one.task_id not in named:
                # What went wrong first is what the user has to know.
                with contextlib.suppress(SimherdError):
                    Task(one.task_id).kill(wait_timeout=None, verbosity_level=0)
        raise
    return [Task(row["id"]) for row in made]


@dataclass
class _Waiting:
    """A task that waits for its input, and where that goes."""

    task_id: str
    storage_dir: str
    url: str
    entries: list[InputEntry]
    signed_at: float = field(default_factory=time.monotonic)

    def send(self, progress: signed_url.Progress) -> _Waiting:
        """Upload it."""
        if time.monotonic() - self.signed_at > limits.USER_URL_S / 2:
            path = f"{self.storage_dir}/{self.task_id}/input.zip"
            (self.url,) = api().get("/storage/signed-urls", operation="upload", paths=[path])
        signed_url.upload(self.url, functools.partial(input_archive.zipped, self.entries, progress))
        return self


def _upload(waiting: list[_Waiting]) -> None:
    """Upload inputs, and have tasks queued whose are there; what is left in `waiting` has none."""
    with progress_bar("inputs") as shown, ThreadPoolExecutor(_UPLOADS, "upload") as pool:
        total = Total(shown)
        parts = [total.part(sum(entry.size for entry in one.entries)) for one in waiting]
        started = [
            pool.submit(one.send, part) for one, part in zip(list(waiting), parts, strict=True)
        ]
        uploaded: list[_Waiting] = []
        try:
            for upload in as_completed(started):
                uploaded.append(upload.result())
                if len(uploaded) >= _REPORT_BATCH:
                    _report_uploaded(uploaded, waiting)
        finally:
            pool.shutdown(cancel_futures=True)
            # Those, too, that were under way when another one failed.
            done = [one for one in started if one.done() and not one.cancelled()]
            sent = [one.result() for one in done if one.exception() is None]
            _report_uploaded([one for one in sent if one in waiting], waiting)


def _report_uploaded(uploaded: list[_Waiting], waiting: list[_Waiting]) -> None:
    if uploaded:
        ids = [one.task_id for one in uploaded]
        api().post("/v1/tasks/batch/input_uploaded", {"ids": ids}, repeatable=True)
        done = set(ids)
        waiting[:] = [one for one in waiting if one.task_id not in done]
        uploaded.clear()


def _entries(wanted: Submission) -> list[InputEntry]:
    found = input_archive.scan(wanted.input_dir) if wanted.input_dir is not None else []
    more = [input_archive.InputEntry.of_bytes(name, data) for name, data in wanted.files.items()]
    taken = {entry.name for entry in more}
    return [entry for entry in found if entry.name not in taken] + more


def _has_input(wanted: Submission, entries: list[InputEntry]) -> bool:
    return bool(entries) or (wanted.shared_dir is None and not wanted.remote_assets)


def _group_name(wanted: Submission) -> str | None:
    return wanted.group.name if isinstance(wanted.group, MachineGroup) else wanted.group


def _groups(wanted: Sequence[Submission]) -> dict[str | None, MachineGroup]:
    """Name → machine group, each looked up once; None: the default. Raises InvalidInput."""
    found: dict[str | None, MachineGroup] = {}
    for one in wanted:
        name = _group_name(one)
        if name not in found:
            group = look_up(one.group)
            if not group.started:
                raise InvalidInput(
                    f"on: the machine group {group.name!r} is not started; start it first."
                )
            found[name] = group
    return found


def _body(
    wanted: Submission, group: MachineGroup, shared: Mapping[Path, str], *, has_input: bool
) -> dict[str, Any]:
    return {
        "client_key": wanted.client_key or secrets.token_hex(16),
        "simulator": wanted.simulator,
        "simulator_name_alias": wanted.alias,
        "resource_pool": group.id,
        "storage_path_prefix": wanted.storage_dir,
        "project": wanted.project,
        "container_image": wanted.image,
        "time_to_live_seconds": wanted.time_to_live_s,
        "max_cost": wanted.max_cost,
        "resubmit_on_preemption": wanted.resubmit,
        "input_resources": wanted.remote_assets,
        "shared_inputs": [shared[wanted.shared_dir]] if wanted.shared_dir else [],
        "has_input": has_input,
        "metadata": dict(wanted.metadata),
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
