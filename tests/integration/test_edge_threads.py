"""One user's slow requests leave threads of the API for others."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from scheduler.api.edge import guard
from scheduler.api.edge.guard import USER_THREADS
from scheduler.objects import archive
from scheduler.objects.archive import ArchivesBusy, list_zip
from scheduler.objects.folder import FolderStore
from scheduler.services.accounts.admin_users import create_user
from scheduler.services.accounts.users import create_key
from scheduler.store.engine import migrate
from tests.support.api import serving, user_of
from tests.support.env import zipped
from tests.support.runtime import make_runtime
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from scheduler.objects.base import ObjectInfo
    from scheduler.wiring import Runtime

#: As many as the attacker sent: more than AnyIO has threads.
_REQUESTS = 60
_QUERY = {"path": "many.zip", "filename": "sim_dir/00001"}


class SlowStore(FolderStore):
    """A storage that keeps everybody waiting who asks for a slow user's file."""

    def __init__(self, store: FolderStore, slow: str) -> None:
        self.__dict__.update(store.__dict__)
        self.slow, self.gate = slow, threading.Event()
        self.lock, self.inside, self.most = threading.Lock(), 0, 0

    def stat(self, user: str, path: str) -> ObjectInfo | None:
        """See `ObjectStore`."""
        if user == self.slow:
            with self.lock:
                self.inside += 1
                self.most = max(self.most, self.inside)
            self.gate.wait(60)
            with self.lock:
                self.inside -= 1
        return super().stat(user, path)


@pytest.fixture
def rt(tmp_path: Path, redis_url: str) -> Iterator[Runtime]:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    migrate(url)
    made, _ = make_runtime(url, redis_url, tmp_path / "storage")
    yield made
    made.store.engine.dispose()


def _new_user(rt: Runtime, name: str) -> tuple[str, str]:
    """The id and a key of a new user, who has stored an archive."""
    with rt.store.write() as session:
        user = create_user(session, "test", name, f"{name}@localhost")
        key = create_key(session, user.id, "test")
    assert isinstance(rt.objects, FolderStore)
    file = rt.objects.file(user.id, "many.zip")
    file.parent.mkdir(parents=True)
    file.write_bytes(zipped({f"{n:05d}": "" for n in range(1000)}))
    return user.id, key


@pytest.mark.fault("B13")
def test_another_user_is_served_while_one_users_requests_wait_for_the_storage(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "USER_WAITING_REQUESTS", _REQUESTS - USER_THREADS)
    (slow, slow_key), (_, other_key) = _new_user(rt, "slow"), _new_user(rt, "other")
    assert isinstance(rt.objects, FolderStore)
    store = SlowStore(rt.objects, slow)
    monkeypatch.setitem(rt.__dict__, "objects", store)

    def ask(_: int) -> httpx.Response:
        with user_of(url, slow_key) as client:
            client.timeout = 60
            return client.get("/storage/zip-file-range", params=_QUERY)

    with (
        serving(rt) as url,
        ThreadPoolExecutor(_REQUESTS + 1) as pool,
        user_of(url, other_key) as other,
    ):
        try:
            answers = [pool.submit(ask, n) for n in range(_REQUESTS + 1)]
            # The one too many is refused, all others are in a thread or wait for one.
            until(lambda: any(a.done() for a in answers), what="a refusal")
            until(lambda: store.inside == USER_THREADS, what="slow requests")
            assert other.get("/tasks").status_code == 200
            found = other.get("/storage/zip-file-range", params=_QUERY)
            assert found.status_code == 200, found.text
            (refused,) = [a.result() for a in answers if a.done()]
            assert refused.status_code == 429
            assert int(refused.headers["Retry-After"]) >= 1
        finally:
            store.gate.set()
        statuses = [a.result().status_code for a in answers]
    # Readers of archives are few: who does not get one in time is to ask again.
    assert set(statuses) <= {200, 429, 503}
    assert statuses.count(429) == 1
    assert store.most == USER_THREADS


def test_a_reader_of_archives_does_not_wait_for_long_and_has_a_place_of_two(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "ZIP_WAIT_S", 0.01)
    (slow, key), (other, other_key) = _new_user(rt, "slow"), _new_user(rt, "other")
    gate, began = threading.Event(), threading.Event()
    store = rt.objects
    read = store.read

    def waits(user: str, path: str, start: int, length: int) -> bytes:
        if threading.current_thread() is reader:
            began.set()
            gate.wait(60)
        return read(user, path, start, length)

    monkeypatch.setattr(store, "read", waits)
    reader = threading.Thread(target=list_zip, args=(store, slow, "many.zip"))
    reader.start()
    try:
        assert began.wait(30)
        with pytest.raises(ArchivesBusy):
            list_zip(store, slow, "many.zip")
        assert len(list_zip(store, other, "many.zip").members) == 1000
        with serving(rt) as url, user_of(url, key) as ada, user_of(url, other_key) as bob:
            refused = ada.get("/storage/zip-contents", params={"path": "many.zip"})
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
            assert bob.get("/storage/zip-contents", params={"path": "many.zip"}).is_success
    finally:
        gate.set()
        reader.join()
    assert len(list_zip(store, slow, "many.zip").members) == 1000
