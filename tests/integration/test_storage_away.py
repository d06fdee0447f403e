"""What becomes of tasks, and what users are told, while the S3 store does not answer."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from scheduler.objects import s3
from scheduler.objects.base import StorageUnavailable
from scheduler.objects.folder import FolderStore
from scheduler.objects.s3 import S3Store
from scheduler.services.accounts.users import create_key
from scheduler.services.control.reconcile_queue import reconcile_queue
from scheduler.services.errors import Conflict
from scheduler.services.storage.browse import copy
from scheduler.services.tasks.enqueue import enqueue_tasks
from scheduler.store.engine import migrate
from simherd.contract.attempt_spec import attempt_key
from tests.support.api import serving, user_of
from tests.support.builders import make_group, make_task
from tests.support.runtime import make_runtime, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scheduler.wiring import Runtime


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Store]:
    """A store at an address where nobody listens; it is tried again without a pause."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield S3Store("outputs", "us-east-1", f"http://127.0.0.1:{taken.getsockname()[1]}")


@pytest.fixture
def rt(away: S3Store, redis_url: str, tmp_path: Path) -> Runtime:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    migrate(url)
    made, _ = make_runtime(url, redis_url, tmp_path)
    made.__dict__["objects"] = away
    return made


def test_every_question_reports_that_it_is_unavailable(away: S3Store) -> None:
    for ask in (
        lambda: away.stat("ada", "a.zip"),
        lambda: away.read("ada", "a.zip", 0, 1),
        lambda: list(away.list("ada", "")),
        lambda: list(away.entries("ada", "")),
        lambda: list(away.unfinished(0.0)),
        lambda: away.copy("ada", "a", "b"),
        lambda: away.delete("ada", "a"),
        lambda: away.begin_upload("ada", "a"),
    ):
        with pytest.raises(StorageUnavailable, match="does not respond"):
            ask()


def test_a_store_that_connects_and_never_responds_is_unavailable_too(
    away: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(s3.QUICK, "read_s", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = S3Store("outputs", "us-east-1", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(StorageUnavailable, match="does not respond"):
            store.stat("ada", "a.zip")


def test_the_api_asks_to_try_again(rt: Runtime) -> None:
    with rt.store.write() as session:
        key = create_key(session, make_group(session).user_id, "test")
    with serving(rt) as address, user_of(address, key) as user:
        answer = user.get("/storage/contents", params={"path": "study"})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert "out of reach" in answer.json()["detail"]


def test_a_task_whose_files_are_there_waits_and_holds_up_no_other(
    rt: Runtime, tmp_path: Path
) -> None:
    with rt.store.write() as session:
        group = make_group(session)
        held_up = [make_task(session, group, input_resources=["mesh.stl"]) for _ in range(2)]
        other = make_task(session, group)
    assert enqueue_tasks(rt, [*(task.id for task in held_up), other.id]) == 1
    assert waiting(rt, group.id) == [attempt_key(other.id, 1)]
    back = FolderStore(tmp_path, "http://unused", "key")
    rt.__dict__["objects"] = back
    reconcile_queue(rt, group)
    assert waiting(rt, group.id) == [attempt_key(t.id, 1) for t in (*held_up, other)]


def test_a_copy_that_breaks_off_is_not_repeated_by_clients(rt: Runtime, tmp_path: Path) -> None:
    class BreaksOff(FolderStore):
        def copy(self, user: str, source: str, target: str) -> None:
            raise StorageUnavailable("The storage does not answer.")

    with rt.store.write() as session:
        user = make_group(session).user_id
    there = BreaksOff(tmp_path / "storage", "http://unused", "key")
    upload = there.begin_upload(user, "study/a.txt")
    part = there.store_part(user, "study/a.txt", upload, 1, b"a")
    there.complete_upload(user, "study/a.txt", upload, [(1, part)])
    rt.__dict__["objects"] = there
    with pytest.raises(Conflict, match=r"broke off .* Remove what is at 'copied'"):
        copy(rt, user, "study", "copied")
