"""Projects over the HTTP API, on both databases."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from scheduler.services.accounts.users import create_key
from scheduler.services.projects.projects import delete_project, ensure_project
from scheduler.store.models import AttemptRow, ProjectRow
from simherd.contract.lifecycle import Status
from tests.support.api import serving, user_of
from tests.support.builders import make_group, make_task
from tests.support.runtime import make_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from httpx import Response

    from scheduler.store.engine import Store
    from scheduler.store.models import GroupRow
    from scheduler.wiring import Runtime

#: Whatever a name may hold; what the URL of each must not be mistaken for.
ODD_NAMES = ["a/b", "50%2F", "50%", "x y", "Größe 速度", "task", "a?b=c#d", "tasks_info", "..."]


class Account:
    """A user with a machine group, and what they get over HTTP."""

    def __init__(self, rt: Runtime, url: str) -> None:
        self.rt, self.url = rt, url
        with rt.store.write() as session:
            self.group: GroupRow = make_group(session)
            self.id = self.group.user_id
            key = create_key(session, self.id, "test")
        self.http = user_of(url, key)

    def make(self, name: str, kind: str = "project") -> dict[str, Any]:
        made = self.http.post("/projects", json={"name": name, "project_type": kind})
        assert made.status_code == 200, made.text
        found: dict[str, Any] = made.json()
        return found

    def project(self, name: str, more: str = "") -> Response:
        return self.http.get(f"/projects/{quote(name, safe='')}{more}")

    def names(self, **query: Any) -> list[str]:
        return [p["name"] for p in self.http.get("/projects", params=query).json()]

    def task(self, project: str = "default", **fields: Any) -> str:
        with self.rt.store.write() as session:
            found = ensure_project(session, self.id, project)
            return make_task(session, self.group, project_id=found.id, **fields).id

    def tasks(self, project: str) -> list[str]:
        found = self.http.get("/tasks", params={"project": project}).json()["tasks"]
        return [t["task_id"] for t in found]


@pytest.fixture(scope="module")
def api(
    database_url: str, store: Store, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Runtime, str]]:
    """A scheduler's parts, and the URL of their API."""
    rt = make_runtime(database_url, redis_url, tmp_path_factory.mktemp("parts"))[0]
    with serving(rt) as url:
        yield rt, url


@pytest.fixture
def account(api: tuple[Runtime, str]) -> Account:
    return Account(*api)


@pytest.mark.conforms("POST /projects", "GET /projects/{name}")
def test_a_project_is_made_once(account: Account) -> None:
    assert account.project("study").status_code == 404
    made = account.make("study")
    assert account.make("study")["id"] == made["id"]
    assert account.project("study").json() == made
    assert made["num_tasks"] == 0
    assert made["task_status_overview"] == {}
    assert made["project_type"] == "project"
    assert made["created_at"].endswith("+00:00")


@pytest.mark.conforms("GET /projects/{name}", "GET /projects/{name}/tasks_info", "7.22")
@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_is_found_again(account: Account, name: str) -> None:
    made = account.make(name)
    assert account.project(name).json()["id"] == made["id"]
    assert account.project(name, "/tasks_info").json() == []
    assert account.project(name, "/metadata").json() == {}
    assert account.names()[0] == name


@pytest.mark.parametrize("name", ["", "x" * 129, "..", ".", "a\nb", " a", "\x1b[2J"])
def test_some_names_cannot_be(account: Account, name: str) -> None:
    refused = account.http.post("/projects", json={"name": name})
    assert refused.status_code == 422
    assert "name" in refused.json()["detail"]


@pytest.mark.conforms("GET /projects")
def test_projects_are_listed_newest_first_page_by_page(account: Account) -> None:
    account.make("one")
    account.make("two", "benchmark")
    account.make("three")
    assert account.names() == ["three", "two", "one", "default"]
    assert account.names(page=2, per_page=3) == ["default"]
    assert account.names(page=3, per_page=3) == []
    assert account.names(page=2) == []
    assert account.names(project_type="benchmark") == ["two"]
    assert account.http.get("/projects", params={"page": 0}).status_code == 422
    assert account.http.get("/projects", params={"project_type": "x"}).status_code == 422


def test_a_user_does_not_see_projects_of_others(account: Account) -> None:
    other = Account(account.rt, account.url)
    account.make("mine")
    task = account.task("mine")
    assert other.names() == ["default"]
    assert other.project("mine").status_code == 404
    other.make("mine")
    assert other.http.post(f"/projects/mine/task/{task}/add").status_code == 404
    assert other.http.delete("/projects", params={"project_name": "mine"}).status_code == 202
    assert account.tasks("mine") == [task]


@pytest.mark.conforms("DELETE /projects")
def test_the_tasks_of_a_deleted_project_go_home(account: Account) -> None:
    task = account.task("a/b")
    gone = account.http.delete("/projects", params={"project_name": "a/b"})
    assert gone.status_code == 202
    assert account.project("a/b").status_code == 404
    assert account.tasks("default") == [task]
    assert account.http.delete("/projects", params={"project_name": "a/b"}).status_code == 404
    kept = account.http.delete("/projects", params={"project_name": "default"})
    assert kept.status_code == 409
    assert "default" in kept.json()["detail"]


@pytest.mark.conforms(
    "POST /projects/{name}/task/{task_id}/add", "POST /projects/{name}/task/{task_id}/remove"
)
def test_tasks_move_between_projects(account: Account) -> None:
    account.make("a/b")
    task = account.task(status=Status.SUCCESS.value)
    assert account.http.post(f"/projects/a%2Fb/task/{task}/add").status_code == 200
    assert account.tasks("a/b") == [task]
    assert account.project("a/b").json()["task_status_overview"] == {"success": 1}
    assert account.http.post(f"/projects/default/task/{task}/remove").status_code == 404
    assert account.http.post(f"/projects/a%2Fb/task/{task}/remove").status_code == 200
    assert account.tasks("default") == [task]
    assert account.http.post("/projects/a%2Fb/task/nothing/add").status_code == 404
    assert account.http.post(f"/projects/nothing/task/{task}/add").status_code == 404


@pytest.mark.conforms("PATCH /projects/{name}")
def test_a_project_is_renamed(account: Account) -> None:
    task = account.task("old")
    account.make("taken")
    renamed = account.http.patch("/projects/old", json={"name": "new/er"})
    assert renamed.json()["name"] == "new/er"
    assert account.tasks("new/er") == [task]
    assert account.project("old").status_code == 404
    assert account.http.patch("/projects/taken", json={"name": "taken"}).status_code == 200
    assert account.http.patch("/projects/taken", json={"name": "new/er"}).status_code == 409
    assert account.http.patch("/projects/default", json={"name": "x"}).status_code == 409
    assert account.http.patch("/projects/taken", json={"name": ".."}).status_code == 422


@pytest.mark.conforms(
    "GET /projects/{name}/metadata",
    "PUT /projects/{name}/metadata",
    "PATCH /projects/{name}/metadata",
)
def test_texts_are_kept_with_a_project(account: Account) -> None:
    account.make("p")
    path = "/projects/p/metadata"
    assert account.http.put(path, json={"a": "1", "b": "2"}).json() == {"a": "1", "b": "2"}
    assert account.http.patch(path, json={"b": "3"}).json() == {"a": "1", "b": "3"}
    assert account.http.put(path, json={"c": ""}).json() == {"c": ""}
    assert account.http.get(path).json() == {"c": ""}
    assert account.project("p").json()["project_metadata"] == {"c": ""}
    for bad in ({"": "x"}, {"a": 1}, {"a": "x" * 2000}, {str(i): "" for i in range(101)}):
        assert account.http.put(path, json=bad).status_code == 422
    assert account.http.get("/projects/q/metadata").status_code == 404


@pytest.mark.conforms("GET /projects/{name}/tasks_info")
def test_tasks_are_returned_as_flat_rows(account: Account) -> None:
    executer = {"vm_type": "zones/a/c2-standard-4"}
    done = account.task(
        "bench",
        status=Status.SUCCESS.value,
        executer=executer,
        metrics={"computation_seconds": 4.5},
        extra_params={"commands": [{"cmd": "a"}, {"cmd": "b 1"}], "env": {"X": "1"}},
    )
    with account.rt.store.write() as session:
        row = AttemptRow(task_id=done, attempt=1, started_at=0, ended_at=3600, price_hour=0.2)
        session.add(row)
    waiting = account.task("bench", simulator_alias="reef3d")
    rows = account.project("bench", "/tasks_info?select=all").json()
    assert [r["task_id"] for r in rows] == [done, waiting]
    assert rows[0].keys() == rows[1].keys()  # a CSV needs them so
    assert rows[0]["machine_type"] == "c2-standard-4"
    assert rows[0]["computation_time (s)"] == 4.5
    assert rows[0]["estimated_computation_cost (US$)"] == 0.2
    assert rows[0]["commands"] == "a; b 1"
    assert rows[0]["env"] == '{"X": "1"}'
    assert rows[1]["simulator"] == "reef3d"
    assert all(isinstance(v, str | int | float | None) for r in rows for v in r.values())
    distinct = account.project("bench", "/tasks_info").json()
    assert {"task_id", "simulator", "machine_type", "commands", "env", "status"} <= set(distinct[0])
    assert "container_image" not in distinct[0]  # the same for both
    ended = account.project("bench", "/tasks_info?status=success").json()
    assert [r["task_id"] for r in ended] == [done]
    assert account.project("bench", "/tasks_info?select=some").status_code == 422
    assert account.project("none", "/tasks_info").status_code == 404


def test_many_make_the_same_project_at_once(account: Account) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(account.make("same")["id"])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_project_that_gets_a_task_is_not_deleted_under_it(account: Account) -> None:
    account.make("busy")
    entered = threading.Event()

    def delete() -> None:
        entered.wait()
        with account.rt.store.write() as session:
            delete_project(session, account.id, "busy")

    deleter = threading.Thread(target=delete)
    deleter.start()
    with account.rt.store.write() as session:
        project: ProjectRow = ensure_project(session, account.id, "busy")
        entered.set()
        task = make_task(session, account.group, project_id=project.id).id
    deleter.join()
    assert account.tasks("default") == [task]
