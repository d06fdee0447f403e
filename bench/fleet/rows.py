"""What SQL says before anything runs: groups, machines, and very many tasks that wait."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from scheduler.services.ids import new_task_id, new_uuid
from scheduler.services.projects.projects import ensure_project
from scheduler.store.machine_state import MACHINE_UP
from scheduler.store.models import MachineRow
from simherd.contract.join import digest
from simherd.contract.lifecycle import TABLE, Status
from tests.support.builders import make_group

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.fleet.site import Site

#: What every machine of the bench shows.
SECRET = "bench"


@dataclass(frozen=True)
class Group:
    """One machine group of the bench."""

    id: str
    server: str
    user_id: str
    project_id: str
    machines: tuple[str, ...]


def make_groups(site: Site, groups: int, executors: int) -> list[Group]:
    """Started groups of machines that came by hand, in turn on the Redis servers."""
    made, names = [], list(site.urls)
    with site.rt.store.write() as session:
        for number in range(groups):
            server = names[number % len(names)]
            size = executors // groups + (number < executors % groups)
            group = make_group(session, redis_server=server, provider="external", num_machines=size)
            project = ensure_project(session, group.user_id, "default")
            machines = tuple(new_uuid() for _ in range(size))
            now = time.time()
            session.add_all(
                MachineRow(
                    id=machine,
                    group_id=group.id,
                    name=machine[:8],
                    status=MACHINE_UP,
                    handle={},
                    created_at=now,
                    launched_at=now,
                    last_seen_at=now,
                    secret_digest=digest(SECRET),
                )
                for machine in machines
            )
            made.append(Group(group.id, server, group.user_id, project.id, machines))
    return made


#: One task as a sweep of cases makes it, before it was handed to Redis.
_TASKS = (
    "COPY tasks (id, user_id, project_id, group_id, status, attempt, last_event, simulator, "
    "container_image, storage_prefix, resubmit, discard_outputs, stream_zip, compress_with, "
    "extra_params, input_resources, shared_inputs, has_input, task_metadata, priority, metrics, "
    "losses, create_time, input_submit_time, watched) FROM STDIN"
)
_HISTORY = "COPY status_changes (task_id, attempt, status, at, description) FROM STDIN"


def make_tasks(site: Site, groups: list[Group], tasks: int) -> None:
    """Tasks in the status submitted, of all groups in turn."""
    now = time.time()
    ids = [new_task_id() for _ in range(tasks)]
    engine = site.rt.store.engine
    with engine.begin() as connection:
        cursor = connection.connection.cursor()
        with cursor.copy(_TASKS) as copy:
            for row in _rows(ids, groups, now):
                copy.write_row(row)
        explanation = TABLE[Status.SUBMITTED].explanation
        with cursor.copy(_HISTORY) as copy:
            for task_id in ids:
                copy.write_row((task_id, 1, Status.SUBMITTED.value, now, explanation))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


def _rows(ids: list[str], groups: list[Group], now: float) -> Iterator[tuple[object, ...]]:
    extra = json.dumps({"commands": [{"cmd": "simulate --case case.json --steps 1000"}]})
    for number, task_id in enumerate(ids):
        group = groups[number % len(groups)]
        yield (
            *(task_id, group.user_id, group.project_id, group.id, Status.SUBMITTED.value, 1, 0),
            *("arbitrary_commands", "debian:bookworm-slim", "", False, False, True, "AUTO"),
            *(extra, "[]", "[]", True, "{}", 0, "{}", "[]", now, now, False),
        )
