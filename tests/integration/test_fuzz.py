"""Requests made by schemathesis from the OpenAPI document: no input makes a server error.

For each operation, valid and invalid requests, with the credentials that it asks for, so that they
get behind them; every other request names objects that exist. A long run by hand:
`SIMHERD_FUZZ_EXAMPLES=500 scripts/fuzz`.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode

from scheduler.objects.folder import FolderStore
from scheduler.services.accounts.admin_keys import key_states
from scheduler.services.accounts.admin_users import create_user
from scheduler.services.accounts.users import create_key
from scheduler.services.attempts.outputs import grant_of
from scheduler.store.engine import migrate
from scheduler.store.models import MachineRow, User
from scripts.pages.http_reference import openapi
from simherd.contract import objects
from simherd.contract.join import digest
from simherd.contract.lifecycle import Status
from tests.support import servers, tenancy
from tests.support.api import serving
from tests.support.builders import make_group, make_task
from tests.support.env import zipped
from tests.support.runtime import make_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scheduler.wiring import Runtime

#: One process serves some thousand requests.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.fault("B2", "B12", "B17")]

#: Requests to each operation, valid ones and as many invalid ones.
EXAMPLES = int(os.environ.get("SIMHERD_FUZZ_EXAMPLES", "5"))
#: The same requests each time, unless it is a long run.
IS_LONG = "SIMHERD_FUZZ_EXAMPLES" in os.environ
#: Both take the same requests; in a short run each kind of request goes to one of them.
DATABASES = ["sqlite", "postgresql"]
#: The same with a storage on S3 in place of a folder.
EVERYTHING = [*DATABASES, "s3"]
#: Seconds after which a request that has no answer has failed.
PATIENCE_S = 20

SCHEMA = schemathesis.openapi.from_dict(openapi())
FOUND: Any = SCHEMA.get_all_operations()
OPERATIONS: dict[str, Any] = {
    one.label: one for one in sorted((found.ok() for found in FOUND), key=lambda one: one.label)
}
#: What the HTTP server itself says, with 400, to what is not HTTP.
NOT_HTTP = "Invalid HTTP request received."
#: Values that no schema thinks of, for each parameter of a query in turn.
ODD = (
    *("", "nan", "inf", "-1", "1e308", "10" * 9, "9" * 5000, "x" * 10_000, "\0", "\ud7ff\ufffe"),
    *("..", "%2e%2e%2f", "\r\nX: y", "\x1b[31m", "\u202e", "${jndi:ldap://a}", "<script>"),
    *("' OR 1=1 --", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "true", "{}", "[]"),
    # The first and last times and months of `datetime`, of SQL and of the epoch, and those beside.
    *("0000-01", "0001-01", "1969-12", "1970-01", "9998-12", "9999-01", "9999-12", "10000-01"),
    *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00-23:59", "1969-12-31T23:59:59.999999Z"),
    *("1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999-23:59"),
    *(
        "1970",
        "9998",
        "9999",
        "10000",
        "0001-01-01",
        "9999-12-31",
        "253402300800",
        "1970-01-01T24:00",
    ),
)


@dataclass
class Target:
    """The server, what exists on it, and how a request gets in."""

    url: str
    rt: Runtime
    user: str
    operator: str
    machine: dict[str, str]
    agent: dict[str, str]
    #: Parameter → a value that exists.
    existing: dict[str, str]
    #: The task whose attempt `agent` may store outputs of.
    held: str
    file_query: dict[str, str]
    sent: int = 0
    session: requests.Session = field(default_factory=requests.Session)

    def headers(self, path: str) -> dict[str, str]:
        """The credentials of an operation."""
        if path.startswith("/v1/attempts/"):
            return self.agent
        if path.startswith("/v1/machines/"):
            return self.machine
        return {"X-API-Key": self.operator if path.startswith("/v1/admin") else self.user}

    def ids(self, path: str) -> dict[str, str]:
        """What exists, for the parameters of a path."""
        held = {"task_id": self.held} if path.startswith("/v1/attempts/") else {}
        return {**self.existing, "event_id": "e", "transfer_id": "t", **held}

    def send(self, method: str, path: str, **request: Any) -> requests.Response:
        """Send a request; return once the status is there, since some responses do not end."""
        with self.session.request(
            method, self.url + path, timeout=PATIENCE_S, stream=True, **request
        ) as answer:
            if answer.status_code >= 400:
                _ = answer.content
            return answer

    def send_case(self, case: Any) -> requests.Response:
        """Send what schemathesis has made, with credentials; every other time to what exists."""
        self.sent += 1
        if self.sent % 2:
            for name in case.path_parameters or {}:
                there = self.ids(case.path)
                case.path_parameters[name] = there.get(name, case.path_parameters[name])
            if case.path.startswith("/files/"):
                case.query = self.file_query
        if case.path.endswith("/message"):
            case.query = {**(case.query or {}), "block_s": 0}  # seconds that it waits for one
        prepared = case.as_transport_kwargs(base_url=self.url)
        prepared["headers"] = {
            **{k: v for k, v in prepared["headers"].items() if _can_be_sent(v)},
            **self.headers(case.path),
        }
        with self.session.request(**prepared, timeout=PATIENCE_S, stream=True) as answer:
            if answer.status_code >= 400:
                _ = answer.content
            return answer


def _can_be_sent(value: str) -> bool:
    """Whether the library sends a header; what it refuses has tests of its own."""
    return value.isascii() and value.isprintable()


@pytest.fixture(scope="module")
def target(
    request: pytest.FixtureRequest, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("fuzz")
    if request.param == "sqlite":
        yield from _target(f"sqlite:///{folder / 'test.db'}", redis_url, folder)
    elif request.param == "s3":
        settings = _s3_settings(request)
        yield from _target(f"sqlite:///{folder / 'test.db'}", redis_url, folder, **settings)
    else:
        with servers.new_database(request.getfixturevalue("postgres_server")) as url:
            yield from _target(url, redis_url, folder)


def _s3_settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings for a storage on an S3 server, whose keys boto3 finds in the environment."""
    environment = request.getfixturevalue("s3")
    patch = pytest.MonkeyPatch()
    request.addfinalizer(patch.undo)
    for name, value in environment.items():
        if name.startswith("AWS_"):
            patch.setenv(name, value)
    return {
        name.removeprefix("SIMHERD_").lower(): value
        for name, value in environment.items()
        if name.startswith("SIMHERD_")
    }


def _store(rt: Runtime, user: str, path: str, data: bytes) -> None:
    if isinstance(rt.objects, FolderStore):
        file = rt.objects.file(user, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    else:
        url = rt.objects.sign(user, path, "upload", 60)
        requests.put(url, data=data, timeout=PATIENCE_S).raise_for_status()


def _target(database_url: str, redis_url: str, folder: Path, **more: Any) -> Iterator[Target]:
    """The server with a user's objects, `more` settings, and an operator."""
    migrate(database_url)
    rt, _ = make_runtime(database_url, redis_url, folder / "storage", **more)
    rt.__dict__["send_job"] = lambda *_: None
    with rt.store.write() as session:
        group = make_group(session, name="fleet")
        owner = session.get_one(User, group.user_id)
        user = create_key(session, owner.id, "fuzz")
        root = create_user(session, "test", "root", "root@localhost", operator=True)
        operator = create_key(session, root.id, "fuzz")
        other = create_user(session, "test", "other", "other@localhost", operator=False)
        create_key(session, other.id, "other")
        ended = make_task(session, group, status=Status.SUCCESS.value, end_time=time.time())
        held = make_task(session, group, status=Status.STARTED.value, machine_id="m1")
        session.add(
            MachineRow(
                id="m1",
                group_id=group.id,
                name="m1",
                status="started",
                handle={},
                created_at=time.time(),
                secret_digest=digest("secret"),
            )
        )
    for path in (objects.output_path("", ended.id, 1), "file.zip"):
        _store(rt, owner.id, path, zipped({"stdout.txt": "a\nb\n"}, "artifacts/"))
    with rt.store.read() as session:
        key_id = key_states(session, "other")[0].id
    signed = rt.file_urls.sign(owner.id, "file.zip", "download", 3600).partition("?")[2]
    with serving(rt) as url:
        made = Target(
            url=url,
            rt=rt,
            user=user,
            operator=operator,
            machine={"X-Machine-Id": "m1", "X-Machine-Secret": "secret"},
            agent={"Authorization": f"Bearer {grant_of(rt, held.id, 1).token}"},
            held=held.id,
            existing={
                **{"group_id": group.id, "task_id": ended.id, "username": "other"},
                **{"key_id": key_id, "group": "fleet", "name": "fleet", "attempt": "1"},
                **{"path": "file.zip", "machine_type": "local"},
            },
            file_query=dict(part.split("=") for part in signed.split("&")),
        )
        made.session.trust_env = False
        yield made
        made.session.close()
    rt.store.engine.dispose()


@pytest.mark.parametrize("target", EVERYTHING if IS_LONG else ["sqlite"], indirect=True)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("label", OPERATIONS)
def test_no_request_makes_a_server_error(target: Target, label: str, mode: GenerationMode) -> None:
    operation = OPERATIONS[label]

    @settings(
        max_examples=EXAMPLES,
        derandomize=not IS_LONG,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        _check(target.send_case(case), case)

    # An operation without parameters has no requests that are against the schema.
    with suppress(Unsatisfiable):
        ask()


def _check(answer: requests.Response, what: object) -> None:
    if (
        answer.status_code == 503
        and "/complete" in str(answer.url)
        and "retry-after" in answer.headers
    ):
        return  # the S3 server of the tests has failed itself: it does not know this upload
    assert answer.status_code < 500, f"{answer.status_code} {answer.text[:1000]}\n{what!r:.2000}"
    if answer.text == NOT_HTTP:
        return
    if answer.status_code >= 400 and answer.request.method != "HEAD":
        kind = answer.headers["content-type"]
        assert kind == "application/json", f"{answer.request.method}: {kind} {answer.text[:500]}"
        assert answer.json()["detail"], what


@pytest.mark.parametrize("target", DATABASES, indirect=True)
@pytest.mark.parametrize("label", [n for n in OPERATIONS if OPERATIONS[n].method == "get"])
def test_no_value_of_a_query_makes_a_server_error(target: Target, label: str) -> None:
    operation = OPERATIONS[label]
    described = SCHEMA.raw_schema["paths"][operation.path]["get"].get("parameters", [])
    path = operation.path
    for name, value in target.ids(path).items():
        path = path.replace(f"{{{name}}}", value)
    needed = {p["name"]: "1" for p in described if p["in"] == "query" and p["required"]}
    for name in (p["name"] for p in described if p["in"] == "query"):
        for value in ODD:
            query = needed | {"block_s": "0"} | {name: value}
            answer = target.send(
                "GET", path, params=query, headers=target.headers(path), allow_redirects=False
            )
            _check(answer, (path, name, value[:100]))


#: A submission that says all that `extra_params` can.
FULL: dict[str, Any] = {
    "simulator": "arbitrary_commands",
    "resource_pool": "{group}",
    "container_image": "docker://x",
    "time_to_live_seconds": 60,
    "max_cost": 1.5,
    "priority": 1,
    "metadata": {"a": "b"},
    "project": "p",
    "storage_path_prefix": "x",
    "input_resources": ["file.zip"],
    "shared_inputs": ["file.zip"],
    "has_input": False,
    "extra_params": {
        "commands": [
            {
                "cmd": "a b",
                "prompts": ["y"],
                "env": {"A": "b"},
                "mpi_config": {"version": "4", "options": {"np": 1, "use-hwthread-cpus": True}},
            }
        ],
        "env": {"A": "b"},
        "checkpoint": {"files": ["*.cpt"], "every_s": 60, "restore": "a b"},
        "run_subprocess_dir": "case",
        "warn_signal": "SIGUSR1",
        "warn_before_s": 1,
        "stop_grace_s": 1,
        "stall_after_s": 1,
        "network": False,
    },
}
#: Bodies of operators' requests.
ADMIN: dict[str, Any] = {
    "POST /v1/admin/users": {"username": "new", "email": "a@b", "operator": False},
    "POST /v1/admin/users/{username}/disable": {"kill": False},
    "PUT /v1/admin/users/{username}/operator": {"operator": False},
    "PUT /v1/admin/users/{username}/quotas/{name}": {"value": 1.0},
    "POST /v1/admin/keys": {"username": "other", "label": "a", "valid_s": 1.0},
    "POST /v1/admin/keys/{key_id}/rotate": {"keep_s": 1.0},
    "PUT /v1/admin/prices/{machine_type}": {"on_demand": 1.0, "spot": 1.0},
    "POST /v1/admin/doctor": {"fix": False, "storage": False},
}
BODIES = {
    **{n: getattr(r, "body", None) for n, r in tenancy.RECIPES.items()},
    **ADMIN,
    "POST /tasks/submit": FULL,
    "POST /v1/tasks/batch": {"tasks": [{**FULL, "client_key": "a"}]},
}
#: What may stand in the place of any value of a body.
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**63 - 1, -(2**63), 1e300, -0.5, "", "x", "nan", "-1", "\u202e", "\r\n"),
    *("..", "x" * 9000, [], {}, [[]], [None], {"": ""}, {"a": {"b": [1]}}, [1, "a"], ["a"] * 2000),
)


@pytest.mark.parametrize("target", EVERYTHING if IS_LONG else ["postgresql"], indirect=True)
@pytest.mark.parametrize("label", [n for n, body in BODIES.items() if body])
def test_no_value_in_a_body_makes_a_server_error(target: Target, label: str) -> None:
    method, _, path = label.partition(" ")
    body = _filled(BODIES[label], target)
    for name, value in target.ids(path).items():
        path = path.replace(f"{{{name}}}", value)
    for turn, place in enumerate(_places(body)):
        # In a short run each place gets every third value, each time others.
        for value in VALUES if IS_LONG else VALUES[turn % 3 :: 3]:
            answer = target.send(
                method, path, json=_with(body, place, value), headers=target.headers(path)
            )
            _check(answer, (label, place, repr(value)[:100]))


def _filled(body: Any, target: Target) -> Any:
    words = {"task": "task_id", "file": "path", "archive": "path", "group": "group_id"}
    if isinstance(body, str) and body.startswith("{"):
        word = body.strip("{}")
        return target.existing.get(words.get(word, word), "a")
    if isinstance(body, dict):
        return {k: _filled(v, target) for k, v in body.items()}
    return [_filled(v, target) for v in body] if isinstance(body, list) else body


def _places(body: Any) -> Iterator[tuple[Any, ...]]:
    """Every place of a body, the whole body included."""
    yield ()
    if isinstance(body, dict | list):
        for key, value in body.items() if isinstance(body, dict) else enumerate(body):
            yield from ((key, *rest) for rest in _places(value))


def _with(body: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A body with another value in one place."""
    if not place:
        return value
    made = dict(body) if isinstance(body, dict) else list(body)
    made[place[0]] = _with(made[place[0]], place[1:], value)
    return made


#: Segments of a path, as they are sent.
SEGMENTS = (
    *("..%2f..%2fetc%2fpasswd", "%2e%2e%2f", "%252e%252e%252f", "%00", "a%00b", "%0d%0aX:%20y"),
    *("%ff%fe", "%ed%a0%80", "%F0%9F%98%80", "..%5c..%5c", "%2f%2f", ";id", "%7Btask_id%7D", "%"),
    *("a" * 10_000, quote("' OR 1=1 --"), quote("\u202e"), "-12345", "9" * 30, "9" * 20),
)


@pytest.mark.fault("B17")
@pytest.mark.parametrize("target", DATABASES if IS_LONG else ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    "label", [n for n, operation in OPERATIONS.items() if "{" in operation.path]
)
def test_no_path_makes_a_server_error_or_leads_elsewhere(target: Target, label: str) -> None:
    operation = OPERATIONS[label]
    names = [p["name"] for p in operation.definition.raw["parameters"] if p["in"] == "path"]
    for name in names:
        for segment in SEGMENTS:
            path = operation.path.replace(f"{{{name}}}", segment)
            for other, value in target.ids(path).items():
                path = path.replace(f"{{{other}}}", value)
            prepared = requests.Request(
                operation.method.upper(),
                target.url,
                headers=target.headers(path),
                json={} if operation.method in {"put", "post", "patch"} else None,
            ).prepare()
            prepared.url = target.url + path  # as it is: the library would mend it
            with target.session.send(prepared, timeout=PATIENCE_S, stream=True) as answer:
                assert 400 <= answer.status_code < 500, (answer.status_code, path[:200])
