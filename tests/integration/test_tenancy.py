"""Every route with another user's objects: nothing is shown, nothing changes, nothing is hinted at.

The routes come from the OpenAPI document, so that none is forgotten: a route without a recipe fails
by its name (tests/support/tenancy.py).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from scheduler.services.accounts.admin_keys import key_states
from scheduler.services.accounts.users import create_key
from scheduler.services.attempts.outputs import grant_of
from scheduler.store.models import Base, GroupRow, MachineRow, User
from scripts.pages.http_reference import openapi
from simherd.contract import objects
from simherd.contract.join import digest
from simherd.contract.lifecycle import Status
from tests.support import tenancy
from tests.support.api import serving, user_of
from tests.support.builders import make_group, make_task
from tests.support.env import zipped
from tests.support.openapi import operations, resolved
from tests.support.runtime import make_runtime
from tests.support.tenancy import Objects, OwnOnly, Public, Recipe, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.store.engine import Store
    from scheduler.wiring import Runtime
    from tests.support.openapi import Operation

#: Some hundred requests to each of two databases.
pytestmark = [pytest.mark.slow, pytest.mark.fault("B4", "B5")]

DOCUMENT = openapi()
#: Those that make something of the caller's own by another's name come last: then it is there.
OPERATIONS = {
    operation.name: operation
    for operation in sorted(
        operations(DOCUMENT),
        key=lambda o: (
            getattr(tenancy.RECIPES.get(o.name), "status", 0) == 201 or o.name == "POST /projects",
            # The document may list a route's methods in any order.
            o.name,
        ),
    )
}
#: A machine's secret, and another word that is not a user's key.
SECRET = "the-secret-of-a-machine"


@dataclass(frozen=True)
class World:
    """A server with Ada, who has one of everything, and Bob, who has his own and wants hers."""

    rt: Runtime
    url: str
    ada: Objects
    nobody: Objects
    bob: httpx.Client
    anyone: httpx.Client
    attempt_token: str

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Every row of the database, by table."""
        with self.rt.store.engine.connect() as connection:
            return {
                table.name: [dict(row) for row in connection.execute(table.select()).mappings()]
                for table in Base.metadata.sorted_tables
            }

    def redis(self) -> dict[bytes, bytes]:
        """What Redis holds of Ada's group."""
        client: Any = self.rt.queue.servers.of(self.ada.group)
        keys = sorted(client.keys(f"*{self.ada.group}*"))
        return {key: client.dump(key) for key in keys}

    def stored(self) -> list[tuple[str, int]]:
        """Ada's files."""
        found = self.rt.objects.list(self.ada.user, "")
        return sorted((info.path, info.size) for info in found)

    def whole(self) -> tuple[Any, ...]:
        """All that is Ada's."""
        rows = {
            table: [row for row in found if self.is_adas(row)]
            for table, found in self.rows().items()
        }
        return rows, self.redis(), self.stored()

    def is_adas(self, row: dict[str, Any]) -> bool:
        """Whether a row is hers, or about something of hers."""
        text = json.dumps(row, default=str)
        named = (self.ada.user, self.ada.task, self.ada.group, self.ada.machine)
        return any(name in text for name in named)

    def send(
        self, client: httpx.Client, operation: Operation, recipe: Recipe, of: Objects
    ) -> httpx.Response:
        """Ask for what is somebody's."""
        path = operation.path
        ids = tenancy.PATH | (recipe.path if not isinstance(recipe, Public) else {})
        for name, value in ids.items():
            path = path.replace(f"{{{name}}}", of.fill(value))
        assert "{" not in path, f"{operation.name}: say in its recipe what {path} stands for"
        query = of.fill(recipe.query)
        signed = query.pop("", None)
        headers = of.fill(recipe.headers) if isinstance(recipe, Refused) else {}
        headers = {k: v.replace("{attempt_token}", self.attempt_token) for k, v in headers.items()}
        body = None if isinstance(recipe, Public) else of.fill(recipe.body)
        return client.request(
            operation.method,
            f"{path}?{signed}" if signed else path,
            params=query or None,
            json=body,
            headers=headers,
        )


@pytest.fixture(scope="module")
def world(
    store: Store, database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    rt, _ = make_runtime(database_url, redis_url, tmp_path_factory.mktemp("storage"))
    rt.__dict__["send_job"] = lambda *_: None
    with serving(rt) as url:
        rt.settings.__dict__["public_url"] = url
        with rt.store.write() as session:
            group = make_group(session, name="adas-group")
            ada = session.get_one(User, group.user_id)
            ada.username = "ada-the-owner"
            key = create_key(session, ada.id, "hers")
            task = make_task(session, group, status=Status.SUCCESS.value, end_time=time.time())
            machine = MachineRow(
                id="adas-machine",
                group_id=group.id,
                name="adas-machine",
                status="started",
                handle={},
                created_at=time.time(),
                secret_digest=digest(SECRET),
            )
            session.add(machine)
            his_group = make_group(session, name="bobs-group")
            bob = create_key(session, his_group.user_id, "his")
            his = make_task(session, his_group)
            ids = (ada.id, group.id, task.id, his.id, his_group.user_id)
        her = user_of(url, key)
        mine = _belongings(rt, her, ids)
        with user_of(url, bob) as client, user_of(url) as anyone:
            token = grant_of(rt, ids[3], 1).token
            yield World(rt, url, mine, _of_nobody(mine), client, anyone, token)
        her.close()


def _belongings(rt: Runtime, her: httpx.Client, ids: tuple[str, ...]) -> Objects:
    """Make one of everything for Ada, by the API where that can."""
    user, group, task, _, bob = ids

    def made(answer: httpx.Response) -> Any:
        assert answer.is_success, answer.text
        return answer.json()

    made(her.post("/projects", json={"name": "adas-project"}))
    made(her.post(f"/projects/adas-project/task/{task}/add"))
    file, archive = "adas-file.txt", objects.output_path("", task, 1)
    for path, data in ((file, b"secret"), (archive, zipped({"a": "secret"}, "artifacts/"))):
        target = rt.objects.file(user, path)  # type: ignore[attr-defined]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    query = {"url": "https://example.com/adas", "path": "adas-fetch"}
    transfer = made(her.post("/storage/input_remote", params=query))["id"]
    with rt.store.write() as session:
        running = make_task(session, session.get_one(GroupRow, group))
        session.flush()
        running_id = running.id
    event = made(
        her.post(
            "/events/",
            json={
                "trigger": {
                    "trigger_type": "task",
                    "trigger": "task_failed",
                    "task_id": running_id,
                },
                "action": {"action_type": "webhook", "webhook_url": "https://example.com/hers"},
            },
        )
    )
    with rt.store.read() as reader:
        key_id = key_states(reader, "ada-the-owner")[0].id
    stolen = rt.file_urls.sign(bob, file, "download", 3600).partition("?")[2]
    return Objects(
        user=user,
        username="ada-the-owner",
        task=task,
        group=group,
        group_name="adas-group",
        project="adas-project",
        file=file,
        archive=f"{task}/output.zip",
        event=str(event["event_id"] if "event_id" in event else event["id"]),
        transfer=transfer,
        machine="adas-machine",
        key_id=key_id,
        stolen_signature=stolen.replace(bob, user),
    )


def _of_nobody(real: Objects) -> Objects:
    """The same shapes, of what is not there: each letter and digit but the hyphens changed."""
    changed = {
        name: value.translate(str.maketrans("0123456789abcdefghij", "1234567890bcdefghija"))
        for name, value in vars(real).items()
        if name not in {"attempt", "stolen_signature"}
    }
    user = changed["user"]
    return replace(real, **changed, stolen_signature=real.stolen_signature.replace(real.user, user))


def _recipes(name: str) -> tuple[Recipe, ...]:
    operation = OPERATIONS[name]
    if operation.path.startswith(tenancy.ADMIN):
        return (Refused(403, path=tenancy.ADMIN_PATH),)
    assert name in tenancy.RECIPES, tenancy.HOW_TO.format(name=name)
    found = tenancy.RECIPES[name]
    return found if isinstance(found, tuple) else (found,)


def _modulo(text: str, of: Objects) -> str:
    """An answer without the names that were asked for, and without its own id."""
    for value in sorted((*of.secrets(), of.archive), key=len, reverse=True):
        text = text.replace(value, "?")
    try:
        told = json.loads(text)
    except ValueError:
        return text
    if isinstance(told, dict):
        told.pop("request_id", None)
    return json.dumps(told)


@pytest.mark.fault("B4")
@pytest.mark.parametrize("name", OPERATIONS)
def test_another_users_objects_are_as_if_they_were_not_there(world: World, name: str) -> None:
    for recipe in _recipes(name):
        _check_tenancy(world, name, recipe)


def _check_tenancy(world: World, name: str, recipe: Recipe) -> None:
    operation = OPERATIONS[name]
    before = world.whole()
    answer = world.send(world.bob, operation, recipe, world.ada)
    if isinstance(recipe, Refused):
        assert answer.status_code == recipe.status, answer.text
        assert recipe.status in {401, 403, 404}
        nowhere = world.send(world.bob, operation, recipe, world.nobody)
        assert nowhere.status_code == answer.status_code, nowhere.text
        assert _modulo(nowhere.text, world.nobody) == _modulo(answer.text, world.ada)
    else:
        expected = recipe.status if isinstance(recipe, OwnOnly) else 200
        assert answer.status_code in {expected, 503 if name == "GET /readyz" else expected}
        asked = json.dumps([recipe.query, getattr(recipe, "body", None)])
        shown = [
            value
            for word, value in vars(world.ada).items()
            if value in answer.text and f"{{{word}}}" not in asked and word in _SECRET_WORDS
        ]
        assert not shown, f"{name} shows {shown} to somebody else: {answer.text[:1000]}"
    assert world.whole() == before, f"{name} changed what is another user's"


#: Fields of `Objects` whose values stand for one object alone, wherever they are shown.
_SECRET_WORDS = frozenset(
    {"user", "username", "task", "group", "group_name", "project", "file", "event", "transfer"}
)


@pytest.mark.fault("B5")
@pytest.mark.parametrize(
    "name",
    [n for n, o in OPERATIONS.items() if any(p["name"] == "x-api-key" for p in o.parameters)],
)
def test_no_key_and_a_machines_secrets_open_no_route_of_users(world: World, name: str) -> None:
    operation, recipe = OPERATIONS[name], _recipes(name)[0]
    assert not isinstance(recipe, Public)
    for key in ({}, {"X-API-Key": SECRET}, {"X-API-Key": world.attempt_token}):
        machine = {"X-Machine-Id": "adas-machine", "X-Machine-Secret": SECRET}
        agent = {"Authorization": f"Bearer {world.attempt_token}"}
        with httpx.Client(
            base_url=world.url, headers=key | machine | agent, trust_env=False
        ) as client:
            answer = world.send(client, operation, recipe, world.ada)
        assert answer.status_code == 401, (key, answer.text)


@pytest.mark.fault("B5")
@pytest.mark.parametrize(
    "name",
    [n for n in OPERATIONS if n.split()[1].startswith(("/v1/attempts/", "/v1/machines/"))],
)
def test_a_users_key_opens_no_route_of_machines(world: World, name: str) -> None:
    recipe = _recipes(name)[0]
    assert isinstance(recipe, Refused)
    bare = replace(recipe, headers={})
    answer = world.send(world.bob, OPERATIONS[name], bare, world.ada)
    assert answer.status_code in {401, 403}, answer.text


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, operation in OPERATIONS.items()
        if not any(p["name"] == "x-api-key" for p in operation.parameters)
    ],
)
def test_a_route_without_a_key_is_known_to_need_none(name: str) -> None:
    recipe = _recipes(name)[0]
    own_credential = name.split()[1].startswith(("/files/", "/v1/attempts/", "/v1/machines/"))
    assert isinstance(recipe, Public) or own_credential, (
        f"{name} takes no X-API-Key: give it a UserDep, or make its recipe Public()"
    )


@pytest.mark.parametrize("name", [n for n in OPERATIONS if tenancy.ADMIN not in n])
def test_a_recipe_asks_for_every_object_that_its_route_can_name(name: str) -> None:
    operation, recipes = OPERATIONS[name], _recipes(name)
    if not isinstance(recipes[0], Refused) or "" in recipes[0].query:
        return  # it leads to what is the caller's own, or is signed as a whole
    given = json.dumps([[recipe.query, getattr(recipe, "body", None)] for recipe in recipes])
    fields = [p["name"] for p in operation.parameters if p["in"] == "query"]
    if operation.body is not None:
        fields += _fields(operation.body)
    unnamed = [
        f
        for f in dict.fromkeys(fields)
        if (f.endswith("_id") or f in tenancy.NAMING)
        and f not in tenancy.NOT_NAMING
        and f'"{f}"' not in given
    ]
    assert not unnamed, (
        f"{name} can name an object by {unnamed}, and its recipe does not ask for another user's"
    )


def _fields(schema: dict[str, Any]) -> list[str]:
    """Names of the fields of a body, at any depth."""
    schema = resolved(DOCUMENT, schema)
    found = list(schema.get("properties", {}))
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]
    inner += [*schema.get("oneOf", ()), *filter(None, [schema.get("items")])]
    return found + [name for one in inner for name in _fields(one)]


def test_no_recipe_is_for_a_route_that_is_gone() -> None:
    assert sorted(tenancy.RECIPES.keys() - OPERATIONS.keys()) == []
