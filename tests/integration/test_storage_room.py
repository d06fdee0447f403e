"""A user's quota for storage, where bytes are promised and where they are stored: with real SQL, a
real API, a folder and S3."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import select, update

from scheduler.domain.limits import MAX_INPUT_BYTES
from scheduler.objects.stored_bytes import StoredBytes
from scheduler.services.accounts.users import create_key
from scheduler.services.billing.quotas import Quota, quota_states
from scheduler.services.errors import QuotaExceeded
from scheduler.services.storage.room import StorageRoomClaim
from scheduler.services.storage.transfer_worker import carry_on
from scheduler.services.storage.transfers import begin_fetch, transfer_of
from scheduler.services.storage.usage import used_bytes
from scheduler.services.tasks.submit import NewTask, submit_tasks
from scheduler.store.models import StorageRoom, User
from scheduler.wiring import Runtime
from simherd.contract.transfers import TransferState
from simherd.errors import TransferError
from simherd.transfers import signed_url
from tests.support.api import serving, user_of
from tests.support.builders import make_group
from tests.support.runtime import make_runtime
from tests.support.waits import until
from tests.support.web import web_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.store.engine import Store

KIB = 1024
QUOTA = 1024 * KIB


@pytest.fixture(scope="module", params=["folder", "s3"])
def rt(
    request: pytest.FixtureRequest,
    database_url: str,
    store: Store,
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Runtime]:
    more: dict[str, Any] = {"outbound_allow": "127.0.0.0/8"}
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "s3":
            environment: dict[str, str] = request.getfixturevalue("s3")
            for name, value in environment.items():
                patch.setenv(name, value)
            more["s3_bucket"] = environment["SIMHERD_S3_BUCKET"]
            more["s3_endpoint_url"] = environment["SIMHERD_S3_ENDPOINT_URL"]
        made = make_runtime(database_url, redis_url, tmp_path_factory.mktemp("storage"), **more)[0]
        made.__dict__["send_job"] = lambda *_: None
        yield made


@pytest.fixture(scope="module")
def url(rt: Runtime) -> Iterator[str]:
    with serving(rt) as served:
        yield served


class Person:
    """A user with a quota of 1 MiB."""

    def __init__(self, rt: Runtime, url: str) -> None:
        self.rt, self._url = rt, url
        with rt.store.write() as session:
            self.group = make_group(session)
            self.id = self.group.user_id
            user = session.get_one(User, self.id)
            user.quotas = {Quota.MAX_STORAGE_GB.value: QUOTA / 1024**3}
            self.api = user_of(url, create_key(session, self.id, "test"))

    def sign(self, *paths: str, sizes: list[int] | None = None) -> httpx.Response:
        """Ask for URLs, as our client does, or without sizes as the published one does."""
        asked: dict[str, Any] = {"operation": "upload", "paths": paths, "sizes": sizes or []}
        return self.api.get("/storage/signed-urls", params=asked)

    def url(self, path: str, size: int | None = None) -> str:
        answer = self.sign(path, sizes=None if size is None else [size])
        assert answer.status_code == 200, answer.text
        return self.here(answer.json()[0])

    def here(self, signed: str) -> str:
        """A URL as it leads to the API of this test."""
        return self._url + signed.removeprefix(self.rt.settings.public_url)

    def put(self, url: str, body: Any) -> httpx.Response:
        return httpx.put(url, content=body, trust_env=False, timeout=30)

    def store(self, path: str, size: int) -> None:
        done = self.put(self.url(path, size), bytes(size))
        assert done.status_code == 200, done.text

    def submit(self) -> None:
        extra = {"commands": [{"cmd": "true"}]}
        asked = NewTask(self.group.id, "any", None, "any", extra_params=extra)
        submit_tasks(self.rt, self.id, [asked])

    @property
    def stored(self) -> dict[str, int]:
        return {info.path: info.size for info in self.rt.objects.list(self.id, "")}

    @property
    def rooms(self) -> int:
        """Bytes that are counted besides what a listing finds."""
        with self.rt.store.read() as session:
            mine = select(StorageRoom.bytes).where(StorageRoom.user_id == self.id)
            return sum(session.scalars(mine))

    def leaves_nothing(self) -> None:
        """Nothing of an upload that was refused stays: no object, no part, no room."""
        until(lambda: self.rooms == 0, what="the room to be given back")
        assert self.stored == {}
        assert [u for u in self.rt.objects.unfinished(2**40) if u.user == self.id] == []
        if self.rt.settings.s3_bucket is None:
            folder = Path(str(self.rt.settings.storage_dir), self.id)
            assert [file for file in folder.rglob("*") if file.is_file()] == []


@pytest.fixture
def person(rt: Runtime, url: str) -> Person:
    return Person(rt, url)


def pieces(count: int, started: threading.Barrier | None = None) -> Iterator[bytes]:
    """A body whose length is not announced, of so many KiB."""
    for number in range(count // 64):
        if number == 1 and started is not None:
            started.wait(30)
        yield bytes(64 * KIB)


def test_what_was_announced_fits_or_is_refused_with_the_numbers(person: Person) -> None:
    refused = person.sign("a", "b", sizes=[600 * KIB, 600 * KIB])
    assert refused.status_code == 403
    assert refused.json()["detail"] == (
        "max_storage_gb: 1048576 bytes allowed, 0 bytes in use, 1228800 bytes more asked for. "
        "Remove what you do not need (`simherd storage remove`). An operator can raise it: "
        "`simherd admin quotas set USERNAME max_storage_gb VALUE`."
    )
    assert person.rooms == 0
    assert person.sign("a", "b", sizes=[600 * KIB, 424 * KIB]).status_code == 200


def test_many_urls_together_stay_within_the_quota_while_they_are_good(person: Person) -> None:
    for number in range(10):
        assert person.sign(f"{number}", sizes=[100 * KIB]).status_code == 200
    assert person.sign("one more", sizes=[100 * KIB]).status_code == 403
    used = {s.quota: s.in_use for s in quota_states(person.rt, _user(person))}
    assert used[Quota.MAX_STORAGE_GB] == 1000 * KIB / 1024**3
    # A new URL for a path takes the place of the one before, whose upload may have failed.
    assert person.sign("3", sizes=[100 * KIB]).status_code == 200
    with person.rt.store.write() as session:
        mine = StorageRoom.user_id == person.id
        session.execute(update(StorageRoom).where(mine).values(expires_at=1.0))
    assert person.sign("one more", sizes=[1000 * KIB]).status_code == 200
    assert person.rooms == 1000 * KIB


def _user(person: Person) -> User:
    with person.rt.store.read() as session:
        return session.get_one(User, person.id)


def test_of_urls_that_are_signed_at_once_no_more_than_fit(person: Person) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = pool.map(lambda n: person.sign(f"{n}", sizes=[400 * KIB]).status_code, range(6))
    assert sorted(answers) == [200, 200, 403, 403, 403, 403]


def test_a_larger_body_than_is_left_is_refused_before_it_is_read(person: Person) -> None:
    done = person.put(person.url("big", 10), bytes(QUOTA + 1))
    assert done.status_code == 403
    assert "max_storage_gb" in done.json()["detail"]
    with person.rt.store.write() as session:  # what the URL itself had
        session.query(StorageRoom).where(StorageRoom.user_id == person.id).delete()
    person.leaves_nothing()


def test_a_body_of_unknown_length_is_cut_off_where_nothing_is_left(person: Person) -> None:
    done = person.put(person.url("big"), pieces(3 * 1024))
    assert done.status_code == 403
    assert "max_storage_gb" in done.json()["detail"]
    person.leaves_nothing()
    assert person.put(person.url("big"), pieces(1024)).status_code == 200
    assert person.stored == {"big": QUOTA}


def test_a_connection_that_breaks_leaves_nothing(person: Person) -> None:
    class Broken(Exception):
        pass

    def broken() -> Iterator[bytes]:
        yield bytes(64 * KIB)
        until(lambda: person.rooms, what="the upload to have its room")
        raise Broken

    with pytest.raises(Broken):
        person.put(person.url("half"), broken())
    person.leaves_nothing()


def test_uploads_at_once_stay_within_the_quota(person: Person) -> None:
    started = threading.Barrier(3)
    urls = [person.url(f"{number}") for number in range(3)]
    with ThreadPoolExecutor(3) as pool:
        answers = pool.map(lambda url: person.put(url, pieces(704, started)).status_code, urls)
    assert sorted(answers) in ([200, 403, 403], [403, 403, 403])
    assert sum(person.stored.values()) <= QUOTA


def test_uploads_of_one_url_at_once_stay_within_the_quota(person: Person) -> None:
    url, room = person.url("same", 700 * KIB), StorageRoomClaim(person.rt, person.id, "same")
    room.take(700 * KIB)  # as the API does for an upload that goes on
    assert person.put(url, bytes(700 * KIB)).status_code == 403
    room.give_back()
    assert person.put(url, bytes(700 * KIB)).status_code == 200
    assert person.rooms == 700 * KIB


def test_stored_bytes_count_for_every_api_process_at_once(person: Person) -> None:
    other = Runtime(person.rt.settings)
    assert used_bytes(other, person.id) == 0
    person.store("a", 700 * KIB)
    assert used_bytes(other, person.id) == 700 * KIB
    with pytest.raises(QuotaExceeded, match="716800 bytes in use"):
        StorageRoomClaim(other, person.id, "b").take(400 * KIB)
    # Once a listing has seen it, it counts once.
    other.__dict__["stored"] = StoredBytes(other.objects, other.store.clock)
    assert used_bytes(other, person.id) == 700 * KIB
    StorageRoomClaim(other, person.id, "b").take(300 * KIB)


def test_a_file_that_is_stored_again_counts_once(person: Person) -> None:
    for _ in range(3):
        person.store("same", 400 * KIB)
    assert person.rooms == 400 * KIB
    person.store("other", 600 * KIB)


def test_removed_files_make_room_at_once(person: Person) -> None:
    person.store("folder/a", 900 * KIB)
    assert person.sign("b", sizes=[900 * KIB]).status_code == 403
    person.api.delete("/storage/", params={"path": "folder"}).raise_for_status()
    person.store("b", 900 * KIB)


def test_outputs_are_stored_beyond_the_quota_and_nothing_else_is_from_then_on(
    person: Person,
) -> None:
    signed = person.rt.objects.sign(person.id, "task/output.zip", "upload", 60)
    assert person.put(_of_machine(person, signed), bytes(2 * QUOTA)).status_code == 200
    person.rt.stored.listing(person.id, fresh_s=0)
    assert person.sign("input").status_code == 403
    with pytest.raises(QuotaExceeded, match="max_storage_gb"):
        person.submit()
    with pytest.raises(QuotaExceeded, match="max_storage_gb"):
        begin_fetch(person.rt, person.id, "http://127.0.0.1:9/x", "x")
    refused = person.api.post("/storage/copy", params={"source": "task", "target": "more"})
    assert refused.status_code == 403


def _of_machine(person: Person, signed: str) -> str:
    folder = person.rt.settings.s3_bucket is None
    return person.here(signed) if folder else signed


def test_an_input_that_is_cut_off_leaves_the_task_waiting(person: Person) -> None:
    body = {
        "simulator": "arbitrary_commands",
        "resource_pool": person.group.id,
        "container_image": "any",
        "extra_params": {"commands": [{"cmd": "true"}]},
    }
    answer = person.api.post("/v1/tasks/batch", json={"tasks": [body]})
    (task,) = answer.raise_for_status().json()
    refused = person.put(person.here(task["upload_url"]), pieces(2 * 1024))
    assert refused.status_code == 403
    assert person.stored == {}
    done = {"ids": [task["id"]]}
    assert person.api.post("/v1/tasks/batch/input_uploaded", json=done).status_code == 409
    assert person.put(person.here(task["upload_url"]), pieces(512)).status_code == 200
    person.api.post("/v1/tasks/batch/input_uploaded", json=done).raise_for_status()
    assert person.stored == {f"{task['id']}/input.zip": 512 * KIB}


def test_a_copy_has_to_fit(person: Person) -> None:
    person.store("a/1", 300 * KIB)
    copy = {"source": "a", "target": "b"}
    assert person.api.post("/storage/copy", params=copy).status_code == 200
    assert person.api.post("/storage/copy", params={**copy, "target": "c"}).status_code == 200
    assert person.api.post("/storage/copy", params={**copy, "target": "d"}).status_code == 403
    assert sorted(person.stored) == ["a/1", "b/1", "c/1"]


def test_a_fetch_ends_when_no_space_is_left(person: Person) -> None:
    with web_server() as web:
        web.files["big"], web.files["small"] = bytes(2 * QUOTA), bytes(600 * KIB)
        begun = [
            begin_fetch(person.rt, person.id, f"{web.url}/files/{name}", name)
            for name in ("big", "small")
        ]
        for _ in begun:
            carry_on(person.rt)
    big, small = (transfer_of(person.rt, person.id, row.id) for row in begun)
    assert (big.state, small.state) == (TransferState.FAILED.value, TransferState.DONE.value)
    assert "max_storage_gb" in str(big.error)
    assert person.stored == {"small": 600 * KIB}
    assert person.rooms == 600 * KIB


def test_our_client_says_why_the_storage_refused(person: Person) -> None:
    with pytest.raises(TransferError, match="refused with 403: max_storage_gb: 1048576"):
        signed_url.upload(person.url("big"), lambda: pieces(2048), 2048 * KIB)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ([1, 2], "sizes: 2 sizes for 1 paths. Give one for each."),
        ([-1], "sizes"),
        ([MAX_INPUT_BYTES + 1], "sizes"),
    ],
)
def test_sizes_that_cannot_be_are_refused(person: Person, sizes: list[int], said: str) -> None:
    answer = person.sign("a", sizes=sizes)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
