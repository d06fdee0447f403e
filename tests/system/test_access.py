"""What belongs to one user is not there for another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from scheduler.services.accounts.users import create_key, create_user
from scheduler.store.engine import Store, open_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.env import Env


@pytest.fixture(scope="module")
def stranger(env: Env) -> Iterator[httpx.Client]:
    """Another user of the same Simherd."""
    store = Store(open_engine(f"sqlite:///{env.data / 'simherd.db'}"))
    with store.write() as session:
        key = create_key(session, create_user(session, "other", "other@localhost").id, "test")
    headers = {"X-API-Key": key}
    with httpx.Client(base_url=env.url, headers=headers, timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def task_id(env: Env) -> str:
    made = env.submit("sh -c 'echo secret > secret.txt'")
    env.wait(made)
    return made


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/tasks/{task}"),
        ("GET", "/tasks/{task}/status"),
        ("POST", "/tasks/{task}/kill"),
        ("POST", "/tasks/{task}/input_uploaded"),
        ("GET", "/tasks/{task}/metadata"),
        ("PUT", "/tasks/{task}/metadata"),
        ("GET", "/v1/tasks/{task}/log"),
        ("GET", "/storage/signed-urls?operation=download&paths={task}/attempts/1/output.zip"),
        ("GET", "/storage/signed-urls?operation=download&paths={task}"),
        ("GET", "/storage/zip-contents?path={task}/attempts/1/output.zip"),
        ("GET", "/storage/zip-file-range?path={task}/input.zip&filename=a"),
        ("DELETE", "/storage/?path={task}/"),
        ("GET", "/compute/group/local"),
        ("POST", "/compute/group/start?machine_group_id={group}"),
        ("DELETE", "/compute/group?machine_group_id={group}"),
    ],
)
def test_another_users_things_are_not_there(
    env: Env, stranger: httpx.Client, task_id: str, method: str, path: str
) -> None:
    group = env.api.get("/compute/group/local").json()["id"]
    body = {"a": "b"} if method == "PUT" else None
    answer = stranger.request(method, path.format(task=task_id, group=group), json=body)
    assert answer.status_code == 404, answer.text
    assert answer.json()["detail"]
    assert "secret.txt" in env.outputs(task_id)


def test_another_users_group_takes_no_tasks(env: Env, stranger: httpx.Client) -> None:
    group = env.api.get("/compute/group/local").json()["id"]
    body = {
        "simulator": "arbitrary_commands",
        "resource_pool": group,
        "container_image": "any",
        "extra_params": {"commands": [{"cmd": "true"}]},
    }
    answer = stranger.post("/tasks/submit", json=body)
    assert answer.status_code == 404
    assert "resource_pool" in answer.json()["detail"]


def test_lists_show_only_objects_of_the_user(
    env: Env, stranger: httpx.Client, task_id: str
) -> None:
    assert env.status(task_id) == "success"
    assert stranger.get("/tasks").json() == {"total_size": 0, "tasks": []}
    assert stranger.get("/compute/groups").json() == []
    assert stranger.get("/storage/contents").json()["total_files"] == 0
    assert [p["name"] for p in stranger.get("/projects").json()] == ["default"]
