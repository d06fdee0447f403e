"""A server with events, seen over HTTP, and what tests register with it."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn
from sqlalchemy import select, update

from scheduler.api.app import make_app
from scheduler.api.edge.server import server_config
from scheduler.services.accounts.users import create_key, create_user
from scheduler.services.ids import new_uuid
from scheduler.services.notifications.deliver import deliver_due
from scheduler.store.models import GroupRow, TaskRow
from simherd.contract.queue.keys import GroupKeys
from simherd.contract.reports import ReportKind
from tests.support.builders import make_group, make_task
from tests.support.runtime import recording, report
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.wiring import Runtime
    from simherd.contract.cause import Cause


@contextmanager
def serving(rt: Runtime) -> Iterator[str]:
    """The API over `parts`; its URL."""
    server = uvicorn.Server(server_config(make_app(rt), rt.settings, port=0))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started, what="the API")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


class Site:
    """A user with a machine group of a server, seen over HTTP; a test runs its background jobs."""

    def __init__(self, rt: Runtime, url: str) -> None:
        self.rt = rt
        self._url = url
        self.jobs: list[str] = []
        rt.__dict__["send_job"] = lambda name, *_: self.jobs.append(name)
        with rt.store.write() as session:
            self.group = make_group(session)
        self.api = self.user(self.group.user_id)

    def user(self, user_id: str | None = None) -> httpx.Client:
        """A user's requests; by default a new user's."""
        with self.rt.store.write() as session:
            if user_id is None:
                name = new_uuid()[:8]
                user_id = create_user(session, name, f"{name}@localhost").id
            key = create_key(session, user_id, "test")
        headers = {"X-API-Key": key}
        return httpx.Client(base_url=self._url, headers=headers, timeout=60, trust_env=False)

    def task(self, **fields: Any) -> TaskRow:
        with self.rt.store.write() as session:
            return make_task(session, self.group, **fields)

    def now(self, task: TaskRow) -> TaskRow:
        """The task as it stands."""
        with self.rt.store.read() as session:
            return session.scalars(select(TaskRow).where(TaskRow.id == task.id)).one()

    def change_group(self, **values: Any) -> None:
        """Have the group be another way."""
        with self.rt.store.write() as session:
            session.execute(update(GroupRow).where(GroupRow.id == self.group.id).values(**values))

    def request(self, trigger: dict[str, Any], target: str) -> Any:
        """Ask for a webhook."""
        action = {"action_type": "webhook", "webhook_url": target}
        return self.api.post("/events/", json={"trigger": trigger, "action": action})

    def register(self, trigger: dict[str, Any], target: str) -> dict[str, Any]:
        """Register a webhook."""
        made = self.request(trigger, target)
        assert made.status_code == 201, made.text
        found: dict[str, Any] = made.json()
        return found

    def event(self, event: dict[str, Any]) -> dict[str, Any]:
        """All that is known of an event by now."""
        found: dict[str, Any] = self.api.get(f"/v1/events/{event['event_id']}").json()
        return found

    def report(self, task: TaskRow, *reports: tuple[ReportKind, dict[str, Any]]) -> None:
        """Report as an executor does, and wait until it is recorded."""
        key = GroupKeys(self.group.id).recorded
        with recording(self.rt):
            for number, (kind, body) in enumerate(reports, 1):
                report(self.rt, self.group.id, task.id, task.attempt, number, kind, **body)
            client = self.rt.queue.servers.main
            until(
                lambda: int(client.hget(key, f"{task.id}:{task.attempt}") or 0) == len(reports),
                what="the reports",
            )

    def deliver(self, now: float | None = None) -> int:
        """Run the job that delivers."""
        return deliver_due(self.rt, time.time() if now is None else now)


def of_task(task: TaskRow, trigger: str = "task_output_uploaded") -> dict[str, str]:
    return {"trigger_type": "task", "trigger": trigger, "task_id": task.id}


def of_group(site: Site, trigger: str) -> dict[str, str]:
    group = site.group.id
    return {"trigger_type": "machine_group", "trigger": trigger, "machine_group_id": group}


def of_file(task: TaskRow, path: str = "out.txt", regex: str | None = None) -> dict[str, str]:
    kind = "file_exists_observer" if regex is None else "file_regex_observer"
    told = {"trigger_type": "observer", "trigger": kind, "task_id": task.id, "file_path": path}
    return told if regex is None else {**told, "regex": regex}


STARTED: tuple[ReportKind, dict[str, Any]] = (ReportKind.STARTED, {"executer": None})
COMPUTED: list[tuple[ReportKind, dict[str, Any]]] = [
    STARTED,
    (ReportKind.COMPUTATION_STARTED, {}),
    (ReportKind.COMPUTATION_ENDED, {}),
]
STORED: list[tuple[ReportKind, dict[str, Any]]] = [
    (ReportKind.OPERATION_STARTED, {"id": 1, "name": "upload_output", "attributes": {}}),
    (ReportKind.OPERATION_ENDED, {"id": 1, "status": "OK", "attributes": {}}),
]


def ended(cause: Cause) -> tuple[ReportKind, dict[str, Any]]:
    return (ReportKind.FINISHED, {"cause": cause.value})
