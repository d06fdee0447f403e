"""Submitting tasks: validated first, then created, all of them or none."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from scheduler.domain.group_status import ACCEPTING, MPI
from scheduler.services.billing.quotas import check_queue, quotas_of
from scheduler.services.errors import Conflict, Invalid, ResourceNotFound, ServiceError
from scheduler.services.groups.access import default_group, usable_group
from scheduler.services.ids import new_task_id
from scheduler.services.projects.projects import DEFAULT_PROJECT, ensure_project
from scheduler.services.storage.room import check_storage
from scheduler.services.tasks.enqueue import check_room, enqueue_tasks
from scheduler.store.models import GroupRow, ProjectRow, TaskRow
from scheduler.store.transitions import add_history
from simherd.contract import objects
from simherd.contract.lifecycle import Status
from simherd.contract.policy import Policy
from simherd.contract.task_options import TaskOptions
from simherd.runtime import logs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClientKey:
    """A client's key for a submission: a repeated request with the same digest creates no second
    task."""

    key: str
    digest: str


@dataclass(frozen=True)
class NewTask:
    """A submission whose fields were validated one by one."""

    #: None: the default, see `groups.access.default_group`.
    group_id: str | None
    simulator: str
    simulator_alias: str | None
    container_image: str
    storage_prefix: str = ""
    project: str | None = None
    time_to_live_s: float | None = None
    #: The most that its machines may cost in all, US$.
    max_cost: float | None = None
    resubmit: bool = False
    stream_zip: bool = True
    compress_with: str = "SEVEN_Z"
    input_resources: list[str] = field(default_factory=list)
    #: Archives in the user's storage that are laid out below the task's own input.
    shared_inputs: list[str] = field(default_factory=list)
    #: Whether the user uploads an input archive for it.
    has_input: bool = True
    priority: int = 0
    metadata: dict[str, str] = field(default_factory=dict)
    extra_params: dict[str, Any] = field(default_factory=dict)
    client_key: ClientKey | None = None

    @cached_property
    def options(self) -> TaskOptions:
        """Return what `extra_params` ask for. Raises Invalid."""
        try:
            return TaskOptions.read(self.extra_params)
        except ValueError as error:
            raise Invalid(str(error)) from error


@dataclass(frozen=True)
class Submitted:
    """A task that was created, now or by an earlier request with the same key."""

    task_id: str
    status: Status


def submit_tasks(rt: Runtime, user_id: str, submissions: Sequence[NewTask]) -> list[Submitted]:
    """Create tasks, all of them or none. Those with an input archive wait for it.

    Raises:
        ResourceNotFound: a machine group is not the user's.
        Conflict: a group accepts no more tasks, or a key was used for another submission.
        Invalid: an option or a path is not valid.
        QuotaExceeded: the user would have more than is allowed.
        GatewayTimeout: Redis has no room for more.
    """
    for index, submission in enumerate(submissions):
        try:
            _check(submission)
        except ServiceError as error:
            raise _at(index, len(submissions), error) from error
    now = time.time()
    check_storage(rt, user_id)
    _check_redis_room(rt, user_id, submissions)
    try:
        done = _make(rt, user_id, submissions, now)
    except IntegrityError:
        # The same request came twice at once, and the other one created them.
        done = _make(rt, user_id, submissions, now)
    enqueue_tasks(rt, [task.task_id for task in done if task.status is Status.SUBMITTED])
    return done


def _check_redis_room(rt: Runtime, user_id: str, submissions: Sequence[NewTask]) -> None:
    """Raise GatewayTimeout where the Redis of a group has no room."""
    groups = {submission.group_id for submission in submissions}
    if None in groups:
        # A missing default is reported where a new task needs it.
        with rt.store.read() as session, contextlib.suppress(ResourceNotFound):
            groups.add(default_group(session, user_id).id)
    for group_id in filter(None, groups):
        check_room(rt, group_id)


def _at(index: int, of: int, error: ServiceError) -> ServiceError:
    return error if of == 1 else type(error)(f"tasks[{index}].{error}")


def _check(submission: NewTask) -> None:
    submission.options  # noqa: B018  raises what is wrong with them
    try:
        objects.task_dir(submission.storage_prefix, new_task_id())
        for path in (*submission.input_resources, *submission.shared_inputs):
            objects.normalise(path)
    except ValueError as error:
        raise Invalid(f"storage_path_prefix, input_resources or shared_inputs: {error}.") from error


def _make(rt: Runtime, user_id: str, submissions: Sequence[NewTask], now: float) -> list[Submitted]:
    with rt.store.write() as session:
        known = _known(session, user_id, submissions)
        fresh = sum(s.client_key is None or s.client_key.key not in known for s in submissions)
        if fresh:
            check_queue(session, user_id, quotas_of(rt, user_id), fresh)
        done: list[TaskRow | Submitted] = []
        context = _Context(rt, session, user_id, now)
        for index, submission in enumerate(submissions):
            key = submission.client_key
            try:
                if key is not None and key.key in known:
                    done.append(_again(known[key.key], key))
                    continue
                task = context.task(submission)
            except ServiceError as error:
                raise _at(index, len(submissions), error) from error
            if key is not None:
                known[key.key] = task
            done.append(task)
        new = [task for task in done if isinstance(task, TaskRow)]
        context.add(new)
    if rt.traces is not None:
        rt.traces.submitted([task.id for task in new], now)
    return [d if isinstance(d, Submitted) else Submitted(d.id, Status(d.status)) for d in done]


def _known(session: Session, user_id: str, submissions: Sequence[NewTask]) -> dict[str, TaskRow]:
    """Return client key → the task that it was used for."""
    keys = [s.client_key.key for s in submissions if s.client_key is not None]
    if not keys:
        return {}
    query = select(TaskRow).where(TaskRow.user_id == user_id, TaskRow.client_key.in_(keys))
    return {task.client_key or "": task for task in session.scalars(query)}


def _again(task: TaskRow, key: ClientKey) -> Submitted:
    if task.client_digest != key.digest:
        raise Conflict(
            f"Idempotency-Key: {key.key!r} was used for another task, {task.id}. "
            "Use another key for another submission."
        )
    return Submitted(task.id, Status(task.status))


class _Context:
    """Groups and projects of one request, each read once."""

    def __init__(self, rt: Runtime, session: Session, user_id: str, now: float) -> None:
        self._providers = rt.providers
        self._session, self._user, self._now = session, user_id, now
        self._groups: dict[str | None, GroupRow] = {}
        self._projects: dict[str, ProjectRow] = {}

    def _group(self, submission: NewTask) -> GroupRow:
        name = submission.group_id
        if name not in self._groups:
            group_id = name or default_group(self._session, self._user).id
            # Locked: until the tasks are inserted, it is not terminated, and stays shared.
            row = self._session.get(
                GroupRow, group_id, with_for_update={"read": True}, populate_existing=True
            )
            self._groups[name] = usable_group(self._session, row, self._user, group_id)
        group = self._groups[name]
        if group.status not in ACCEPTING:
            raise Conflict(
                f"resource_pool: machine group {group.name!r} is {group.status}. "
                "Start another group and submit the task to it."
            )
        if group.quarantined_at is not None:
            raise Conflict(
                f"resource_pool: machine group {group.name!r} is quarantined: "
                f"{group.quarantine_reason}. Use another group, or ask an operator to repair it."
            )
        if submission.options.network and not Policy.read(group.policy).network:
            raise Invalid(
                f"extra_params.network: machine group {group.name!r} allows no network. "
                "Start a group whose policy does, or do without."
            )
        self._check_processes(group, submission)
        return group

    def _check_processes(self, group: GroupRow, submission: NewTask) -> None:
        """Refuse more processes than the group has processors; manual machines are of any size."""
        provider = self._providers.get(group.provider)
        if provider is None or provider.by_hand:
            return
        machines = group.max_machines if group.group_type == MPI else 1
        most = group.vcpus * machines
        for index, number in enumerate(submission.options.processes):
            if number > most:
                raise Invalid(
                    f"extra_params.commands[{index}].mpi_config.options.np: {number} processes are "
                    f"more than the {most} processors of the group's machines. Ask for fewer, or "
                    "for a group of larger machines."
                )

    def _project(self, name: str) -> ProjectRow:
        if name not in self._projects:
            self._projects[name] = ensure_project(self._session, self._user, name)
        return self._projects[name]

    def task(self, submission: NewTask) -> TaskRow:
        """Return a new task; one without an input is queued at once. Raises ServiceError."""
        group, key = self._group(submission), submission.client_key
        waits, task_id = submission.has_input, new_task_id()
        return TaskRow(
            id=task_id,
            user_id=self._user,
            project_id=self._project(submission.project or DEFAULT_PROJECT).id,
            group_id=group.id,
            status=(Status.PENDING_INPUT if waits else Status.SUBMITTED).value,
            attempt=0 if waits else 1,
            simulator=submission.simulator,
            simulator_alias=submission.simulator_alias,
            container_image=submission.container_image,
            storage_prefix=submission.storage_prefix,
            time_to_live_s=submission.time_to_live_s,
            max_cost=submission.max_cost,
            resubmit=submission.resubmit,
            stream_zip=submission.stream_zip,
            compress_with=submission.compress_with,
            extra_params=submission.options.encode(submission.extra_params, task_id),
            priority=submission.priority,
            input_resources=submission.input_resources,
            shared_inputs=submission.shared_inputs,
            has_input=submission.has_input,
            task_metadata=submission.metadata,
            client_key=None if key is None else key.key,
            client_digest=None if key is None else key.digest,
            create_time=self._now,
            input_submit_time=None if waits else self._now,
        )

    def add(self, tasks: Sequence[TaskRow]) -> None:
        """Insert tasks, with their history."""
        self._session.add_all(tasks)
        self._session.flush()
        for task in tasks:
            add_history(self._session, task.id, Status(task.status), task.attempt, self._now)
        if len(tasks) == 1:
            logs.note(task=tasks[0].id)
        log.info("event=submitted tasks=%s", ",".join(task.id for task in tasks[:10]))
