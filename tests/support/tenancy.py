"""How the tenancy matrix asks each route for another user's objects.

Every operation of the OpenAPI document has one line in `RECIPES`, except those below `/v1/admin`,
which only operators may use. In paths, queries and bodies a recipe writes `{task}` where an object
of the owner's belongs: the matrix puts in one of the owner's, and then one that does not exist,
and expects the same answer to both. The names that can stand there are the fields of `Objects`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Objects:
    """What a user has, by the words that recipes use; or the same of nobody."""

    user: str
    username: str
    task: str
    group: str
    group_name: str
    project: str
    file: str
    archive: str
    event: str
    transfer: str
    machine: str
    key_id: str
    #: A URL's query as it was signed for the attacker, for another user's file.
    stolen_signature: str
    attempt: str = "1"

    def secrets(self) -> list[str]:
        """What no answer to somebody else may hold."""
        return [
            value
            for name, value in asdict(self).items()
            if name not in {"attempt", "stolen_signature", "archive"}
        ]

    def fill(self, template: Any) -> Any:
        """A template with these objects in it."""
        if isinstance(template, str):
            for name, value in asdict(self).items():
                template = template.replace(f"{{{name}}}", value)
            return template
        if isinstance(template, dict):
            return {k: self.fill(v) for k, v in template.items()}
        if isinstance(template, list):
            return [self.fill(v) for v in template]
        return template


@dataclass(frozen=True)
class Refused:
    """A route that leads to an object: another's and one that does not exist look the same."""

    status: int = 404
    path: dict[str, str] = field(default_factory=dict)
    query: dict[str, Any] = field(default_factory=dict)
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class OwnOnly:
    """A route that works on what is the caller's: it succeeds, and shows and changes nothing of
    others, even where it is given their names."""

    status: int = 200
    path: dict[str, str] = field(default_factory=dict)
    query: dict[str, Any] = field(default_factory=dict)
    body: Any = None


@dataclass(frozen=True)
class Public:
    """A route that needs no key, for it holds nothing of any user."""

    query: dict[str, Any] = field(default_factory=dict)


Recipe = Refused | OwnOnly | Public

#: Path parameters that stand for the same object in every route.
PATH = {
    "task_id": "{task}",
    "event_id": "{event}",
    "transfer_id": "{transfer}",
    "attempt": "{attempt}",
    "machine": "{machine}",
}
#: A task that could be, on another's group.
_TASK = {
    "simulator": "arbitrary_commands",
    "resource_pool": "{group}",
    "container_image": "docker://debian",
    "extra_params": {"commands": [{"cmd": "true"}]},
    # Names and paths are each user's own: these lead to nothing of the owner's.
    "project": "{project}",
    "shared_inputs": ["{file}"],
    "input_resources": ["{file}"],
}
#: Bodies and queries of a task's data channel.
_CHANNEL = {"sender_id": "me", "receiver_id": "{task}", "type": "offer", "sdp": "v=0"}
#: What a client that holds another attempt's key sends.
_AGENT = {"authorization": "Bearer {attempt_token}"}
_MACHINE = {"X-Machine-Id": "{machine}", "X-Machine-Secret": "not-its-secret"}
_DIGEST = {"secret_digest": "0" * 64}
_SAVED = {"path": "a", "size": 1, "mode": 0o644, "mtime_ns": 1, "sha256": "0" * 64}
_PROJECT = {"name": "{project}"}
_OFFER = {"username": "{username}"}
_URL = "https://example.com/a"


def _agent(body: Any = None) -> Refused:
    return Refused(403, body=body, headers=_AGENT)


def _file() -> Refused:
    return Refused(403, path={"path": "{file}"}, query={"": "{stolen_signature}"})


def _event(trigger: dict[str, str]) -> Refused:
    action = {"action_type": "webhook", "webhook_url": _URL}
    return Refused(body={"trigger": trigger, "action": action})


#: Several recipes for one operation ask for several kinds of objects.
RECIPES: dict[str, Recipe | tuple[Recipe, ...]] = {
    "GET /livez": Public(),
    "GET /readyz": Public(),
    "GET /version-check": Public(query={"client_version": "0.18.12"}),
    "GET /simulators/available-images": Public(),
    "GET /pricing/machine-types": Public(),
    "GET /users/info": OwnOnly(),
    "GET /users/quotas": OwnOnly(),
    "GET /users/costs": OwnOnly(query={"start_year": 2026, "start_month": 1}),
    "GET /users/fees": OwnOnly(),
    "GET /v1/costs": OwnOnly(),
    # Tasks.
    "GET /tasks": OwnOnly(query={"project": "{project}"}),
    "POST /tasks/submit": Refused(body=_TASK),
    "POST /tasks/{task_id}/input_uploaded": Refused(),
    "GET /tasks/{task_id}": Refused(),
    "GET /tasks/{task_id}/status": Refused(),
    "POST /tasks/{task_id}/kill": Refused(),
    "PUT /tasks/{task_id}/metadata": Refused(body={"a": "b"}),
    "GET /tasks/{task_id}/metadata": Refused(),
    "POST /tasks/{task_id}/register": Refused(body={"sender_id": "me"}),
    "POST /tasks/{task_id}/offer": Refused(body=_CHANNEL),
    "GET /tasks/{task_id}/message": Refused(query={"client": "me", "block_s": 0}),
    "POST /v1/tasks/changes": Refused(body={"ids": ["{task}"]}),
    "GET /v1/tasks/{task_id}/files": Refused(),
    "GET /v1/tasks/{task_id}/files/last-modified": Refused(),
    "GET /v1/tasks/{task_id}/top": Refused(),
    "GET /v1/tasks/{task_id}/files/tail": Refused(query={"file": "stdout.txt"}),
    "GET /v1/tasks/{task_id}/follow": Refused(query={"file": "stdout.txt"}),
    "GET /v1/tasks/{task_id}/files/content": Refused(query={"file": "stdout.txt"}),
    "POST /v1/tasks/batch": Refused(body={"tasks": [_TASK]}),
    "POST /v1/tasks/batch/input_uploaded": Refused(body={"ids": ["{task}"]}),
    "GET /v1/tasks/{task_id}/usage": Refused(),
    "GET /v1/tasks/{task_id}/explain": Refused(),
    "GET /v1/tasks/{task_id}/attempts": Refused(),
    "POST /v1/tasks/{task_id}/extend": Refused(body={"seconds": 60}),
    # Projects: each user has names of their own.
    "GET /projects": OwnOnly(),
    "POST /projects": OwnOnly(body=_PROJECT),
    "DELETE /projects": Refused(query={"project_name": "{project}"}),
    "GET /projects/{name}": Refused(path=_PROJECT),
    "PATCH /projects/{name}": Refused(path=_PROJECT, body={"name": "mine-now"}),
    "GET /projects/{name}/tasks_info": Refused(path=_PROJECT),
    "POST /projects/{name}/task/{task_id}/add": Refused(path={"name": "default"}),
    "POST /projects/{name}/task/{task_id}/remove": Refused(path={"name": "default"}),
    "GET /projects/{name}/metadata": Refused(path=_PROJECT),
    "PUT /projects/{name}/metadata": Refused(path=_PROJECT, body={"a": "b"}),
    "PATCH /projects/{name}/metadata": Refused(path=_PROJECT, body={"a": "b"}),
    # Machine groups.
    "POST /compute/group": OwnOnly(201, body={"machine_type": "local", "name": "{group_name}"}),
    "POST /compute/group/check": OwnOnly(
        204, body={"machine_type": "local", "name": "{group_name}"}
    ),
    "DELETE /compute/group": Refused(query={"machine_group_id": "{group}"}),
    "POST /compute/group/start": Refused(query={"machine_group_id": "{group}"}),
    "POST /v1/groups/{name}/invitations": Refused(path={"name": "{group_name}"}),
    "GET /v1/default-group": OwnOnly(),
    "GET /v1/groups/{name}/shares": Refused(path={"name": "{group_name}"}),
    "POST /v1/groups/{name}/shares": Refused(path={"name": "{group_name}"}, body=_OFFER),
    "DELETE /v1/groups/{name}/shares/{username}": Refused(
        path={"name": "{group_name}", "username": "{username}"}
    ),
    "GET /v1/group-offers": OwnOnly(),
    "POST /v1/group-offers/{group_id}/accept": Refused(path={"group_id": "{group}"}),
    "POST /v1/group-offers/{group_id}/decline": Refused(path={"group_id": "{group}"}),
    "GET /compute/groups": OwnOnly(),
    "GET /compute/groups/history": OwnOnly(query={"project": "{project}"}),
    "GET /compute/group/{name}": Refused(path={"name": "{group_name}"}),
    "GET /compute/price": OwnOnly(query={"machine_type": "local"}),
    "GET /compute/machine_types": OwnOnly(),
    # Events.
    "POST /events/": (
        _event({"trigger_type": "task", "trigger": "task_failed", "task_id": "{task}"}),
        _event(
            {
                "trigger_type": "machine_group",
                "trigger": "machine_group_terminated",
                "machine_group_id": "{group}",
            }
        ),
        _event(
            {
                "trigger_type": "observer",
                "trigger": "file_exists_observer",
                "task_id": "{task}",
                "file_path": "a",
            }
        ),
    ),
    "GET /events/": OwnOnly(),
    "GET /events/{event_id}": Refused(),
    "DELETE /events/{event_id}": Refused(),
    "GET /v1/events": OwnOnly(),
    "GET /v1/events/{event_id}": Refused(),
    # The storage: each user has paths of their own, and no path leads to another's.
    "GET /storage/signed-urls": Refused(query={"operation": "download", "paths": "{file}"}),
    "GET /storage/contents": Refused(query={"path": "{file}"}),
    "GET /storage/zip-contents": Refused(query={"path": "{archive}"}),
    "GET /storage/zip-file-range": Refused(query={"path": "{archive}", "filename": "a"}),
    "DELETE /storage/": Refused(query={"path": "{task}"}),
    "POST /storage/copy": Refused(query={"source": "{file}", "target": "mine.txt"}),
    "POST /storage/input_remote": OwnOnly(query={"url": _URL, "path": "{file}"}),
    "POST /storage/export_multipart": Refused(
        body={
            "path": "{file}",
            "parts_size": 5 * 1024**2,
            "upload_parts": [{"part_number": 1, "part_url": _URL}],
            "complete_multipart_url": _URL,
        }
    ),
    "GET /storage/size": OwnOnly(),
    "GET /storage/cost": OwnOnly(),
    "GET /storage/list_buckets": OwnOnly(),
    "GET /storage/default_bucket": OwnOnly(),
    "GET /v1/storage/files": Refused(query={"path": "{file}"}),
    "GET /v1/storage/transfers": OwnOnly(),
    "GET /v1/storage/transfers/{transfer_id}": Refused(),
    # Signed URLs: signed for the attacker, and changed to lead to another's file.
    "GET /files/{path}": _file(),
    "HEAD /files/{path}": _file(),
    "PUT /files/{path}": _file(),
    # Executors: with the key of an attempt of the attacker's own.
    "POST /v1/attempts/{task_id}/{attempt}/urls": _agent({}),
    "POST /v1/attempts/{task_id}/{attempt}/stored": _agent({}),
    "POST /v1/attempts/{task_id}/{attempt}/begin": _agent({}),
    "POST /v1/attempts/{task_id}/{attempt}/part": _agent({"upload": "u", "number": 1}),
    "POST /v1/attempts/{task_id}/{attempt}/complete": _agent({"upload": "u", "parts": [[1, "e"]]}),
    "POST /v1/attempts/{task_id}/{attempt}/abort": _agent({"upload": "u"}),
    "POST /v1/attempts/{task_id}/{attempt}/drop": _agent({}),
    "POST /v1/attempts/{task_id}/{attempt}/checkpoint": _agent({"files": [_SAVED]}),
    "POST /v1/attempts/{task_id}/{attempt}/checkpoints": _agent(),
    # Machines: with another machine's id.
    "POST /v1/machines/join": Refused(403, body={**_DIGEST, "token": "{machine}"}),
    "POST /v1/machines/secret": Refused(403, body=_DIGEST, headers=_MACHINE),
    "POST /v1/machines/notice": Refused(403, body={"reclaim_at": None}, headers=_MACHINE),
}

#: Below this path only operators may do anything.
ADMIN = "/v1/admin/"
#: What operators' routes take in their paths.
ADMIN_PATH = {
    "username": "{username}",
    "name": "max_tasks",
    "key_id": "{key_id}",
    "group": "{group}",
    "machine": "{machine}",
    "machine_type": "local",
}
#: Names of parameters and fields that may name an object, besides all that end in `_id`.
NAMING = frozenset(
    {"ids", "path", "paths", "source", "project", "project_name", "resource_pool", "username"}
)
#: Names of that kind which name no object of a user.
NOT_NAMING = frozenset({"provider_id", "receiver_id", "sender_id"})

HOW_TO = """\
{name}: the tenancy matrix does not know this route.
Add a line to RECIPES in tests/support/tenancy.py:
    "{name}": Refused(),            where the path has an id (see PATH), and others get 404
    "{name}": Refused(query={{"machine_group_id": "{{group}}"}}, body=...),
                                    where another object is named elsewhere
    "{name}": OwnOnly(),            where it lists or makes only what is the caller's own
    "{name}": Public(),             where it needs no key at all
A new kind of object is a field of Objects, which tests/integration/test_tenancy.py makes.
"""
