"""Fetches from URLs and exports, turn by turn, with real SQL, storage and web servers."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete

from scheduler.objects.s3 import S3Store
from scheduler.services.accounts.users import create_user
from scheduler.services.errors import Invalid, QuotaExceeded, ResourceNotFound
from scheduler.services.ids import new_uuid
from scheduler.services.storage import fetch, transfer_turn, transfers
from scheduler.services.storage.transfer_worker import carry_on
from scheduler.services.storage.transfers import TRANSFER_KEPT_S
from scheduler.store.models import TransferRow
from simherd.contract.transfers import TransferState
from simherd.contract.upload_grant import LEAST_PART_BYTES, part_size
from tests.support.runtime import make_runtime
from tests.support.web import CUT_BYTES, web_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scheduler.store.engine import Store
    from scheduler.wiring import Runtime
    from tests.support.web import Web

#: Two whole parts and some.
BIG = os.urandom(64) * (2 * part_size(1) // 64) + b"the end"


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with web_server() as made:
        made.files["big.bin"] = BIG
        made.files["small.txt"] = b"small"
        made.files["empty"] = b""
        yield made


class Person:
    """A user with a storage, and a worker that gives turns when it is told."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        with rt.store.write() as session:
            self.id = create_user(session, new_uuid(), "any@localhost").id

    def fetch(self, url: str, path: str) -> TransferRow:
        return transfers.begin_fetch(self.rt, self.id, url, path)

    def state(self, begun: TransferRow) -> TransferRow:
        return transfers.transfer_of(self.rt, self.id, begun.id)

    def turn(self) -> None:
        """The next turn, whenever it is due."""
        with self.rt.store.write() as session:
            for row in session.query(TransferRow).where(TransferRow.ended_at.is_(None)):
                row.next_at = min(row.next_at, time.time())
        carry_on(self.rt)

    def to_the_end(self, begun: TransferRow, most: int = 10) -> TransferRow:
        for _ in range(most):
            self.turn()
            if self.state(begun).ended_at is not None:
                break
        return self.state(begun)

    def stored(self, path: str) -> bytes:
        found = self.rt.objects.stat(self.id, path)
        assert found is not None
        return self.rt.objects.read(self.id, path, 0, found.size)

    def put(self, path: str, data: bytes) -> None:
        upload = self.rt.objects.begin_upload(self.id, path)
        at = 0
        sent: list[tuple[int, str]] = []
        while at < len(data) or not sent:
            size = part_size(len(sent) + 1)
            number = len(sent) + 1
            part = data[at : at + size]
            etag = self.rt.objects.store_part(self.id, path, upload, number, part)
            sent.append((number, etag))
            at += size
        self.rt.objects.complete_upload(self.id, path, upload, sent)


@pytest.fixture
def person(
    request: pytest.FixtureRequest,
    database_url: str,
    store: Store,
    tmp_path: Path,
) -> Person:
    """Two pairs cover it: SQLite with a folder, PostgreSQL with S3."""
    with store.write() as session:
        session.execute(delete(TransferRow))
    rt, _ = make_runtime(database_url, "redis://unused", tmp_path)
    rt.settings.outbound_allow = "127.0.0.1/32"
    # Turns are given by hand here; a system test has the worker give them.
    rt.__dict__["send_job"] = lambda *_: None
    if database_url.startswith("postgresql"):
        rt.__dict__["objects"] = request.getfixturevalue("bucket")
    return Person(rt)


@pytest.fixture
def bucket(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> S3Store:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    return S3Store(s3["SIMHERD_S3_BUCKET"], "us-east-1", s3["SIMHERD_S3_ENDPOINT_URL"])


@pytest.mark.parametrize("name", ["big.bin", "small.txt", "empty"])
def test_a_file_is_fetched_whole(person: Person, web: Web, name: str) -> None:
    begun = person.fetch(f"{web.url}/to/{name}", f"got/{name}")
    ended = person.to_the_end(begun)
    assert (ended.state, ended.error) == (TransferState.DONE, None)
    assert ended.size == ended.moved == len(web.files[name])
    assert person.stored(f"got/{name}") == web.files[name]


@pytest.mark.parametrize("how", ["files", "plain"])
def test_a_large_file_takes_turns_and_resumes(
    person: Person, web: Web, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_turn, "_TURN_S", 0)
    web.asked.clear()
    begun = person.fetch(f"{web.url}/{how}/big.bin", "got.bin")
    person.turn()
    waiting = person.state(begun)
    assert (waiting.state, waiting.moved, waiting.size) == (
        TransferState.WAITING,
        part_size(1),
        len(BIG),
    )
    assert person.to_the_end(begun).state == TransferState.DONE
    assert person.stored("got.bin") == BIG
    assert web.starts("big.bin") == [0, part_size(1), 2 * part_size(1)]


def test_two_files_take_turns(person: Person, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer_turn, "_TURN_S", 0)
    large = person.fetch(f"{web.url}/files/big.bin", "large.bin")
    small = person.fetch(f"{web.url}/files/small.txt", "small.txt")
    carry_on(person.rt)
    carry_on(person.rt)
    assert person.state(large).state == TransferState.WAITING
    assert person.state(small).state == TransferState.DONE
    assert person.to_the_end(large).state == TransferState.DONE


def test_users_take_turns(person: Person, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer_turn, "_TURN_S", 0)
    other = Person(person.rt)
    many = [person.fetch(f"{web.url}/files/big.bin", f"{n}.bin") for n in range(3)]
    one = other.fetch(f"{web.url}/files/small.txt", "small.txt")
    carry_on(person.rt)
    carry_on(person.rt)
    assert [person.state(begun).moved > 0 for begun in many] == [True, False, False]
    assert other.state(one).state == TransferState.DONE


def test_a_user_has_one_turn_at_a_time_and_all_have_two(person: Person, web: Web) -> None:
    users = [person, Person(person.rt), Person(person.rt)]
    begun = [user.fetch(f"{web.url}/files/small.txt", "first.txt") for user in users]
    seconds = [user.fetch(f"{web.url}/files/small.txt", "second.txt") for user in users]

    def states() -> list[str]:
        return [user.state(row).state for user, row in zip(users, seconds, strict=True)]

    under_way(person.rt, begun[0])
    carry_on(person.rt)  # the first of the second user
    carry_on(person.rt)  # the first of the third
    carry_on(person.rt)
    assert states() == [TransferState.WAITING, TransferState.DONE, TransferState.WAITING]
    under_way(person.rt, begun[1])
    carry_on(person.rt)
    assert states() == [TransferState.WAITING, TransferState.DONE, TransferState.WAITING]


def under_way(rt: Runtime, row: TransferRow) -> None:
    """Have a worker be at a transfer's turn."""
    with rt.store.write() as session:
        found = session.get_one(TransferRow, row.id)
        found.state, found.turn, found.next_at = (
            TransferState.RUNNING,
            found.turn + 1,
            time.time() + 60,
        )


def test_a_response_that_drips_is_cut_off(
    person: Person, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_turn, "_WHOLE_S", 0.5)
    begun = person.fetch(f"{web.url}/drip/a", "a")
    person.turn()
    waiting = person.state(begun)
    assert (waiting.state, waiting.error) == (
        TransferState.WAITING,
        "The other server does not answer.",
    )


def test_a_broken_connection_loses_only_the_current_part(person: Person, web: Web) -> None:
    web.cuts.clear()
    begun = person.fetch(f"{web.url}/cut/big.bin", "cut.bin")
    person.turn()
    waiting = person.state(begun)
    assert waiting.state == TransferState.WAITING
    assert waiting.error
    assert 0 < waiting.moved <= CUT_BYTES
    assert person.to_the_end(begun).state == TransferState.DONE
    assert person.stored("cut.bin") == BIG


def test_a_file_that_changes_is_fetched_again(
    person: Person, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_turn, "_TURN_S", 0)
    web.files["news.bin"], web.versions["news.bin"] = BIG, "1"
    begun = person.fetch(f"{web.url}/files/news.bin", "news.bin")
    person.turn()
    web.files["news.bin"], web.versions["news.bin"] = BIG[::-1], "2"
    person.turn()
    assert "changed" in (person.state(begun).error or "")
    assert person.to_the_end(begun).state == TransferState.DONE
    assert person.stored("news.bin") == BIG[::-1]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/status/404", "returned 404"),
        ("/status/416", "returned 416"),
        ("/inside", "169.254.169.254, which is not on the public internet"),
    ],
)
def test_an_unavailable_source_fails_at_once(
    person: Person, web: Web, path: str, words: str
) -> None:
    begun = person.fetch(web.url + path, "never.bin")
    person.turn()
    ended = person.state(begun)
    assert ended.state == TransferState.FAILED
    assert words in (ended.error or "")
    assert person.rt.objects.stat(person.id, "never.bin") is None
    left = person.rt.objects.unfinished(time.time() + 60)
    assert [upload for upload in left if upload.user == person.id] == []


def test_a_server_in_trouble_is_asked_some_times(person: Person, web: Web) -> None:
    web.asked.clear()
    begun = person.fetch(f"{web.url}/status/503", "never.bin")
    person.turn()
    assert person.state(begun).state == TransferState.WAITING
    assert person.to_the_end(begun).state == TransferState.FAILED
    assert len(web.asked) == 6


def test_a_file_that_is_too_large_is_not_stored(
    person: Person, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MAX_FETCH_BYTES", 4)
    ended = person.to_the_end(person.fetch(f"{web.url}/files/small.txt", "small.txt"))
    assert "larger than 4 bytes" in (ended.error or "")


@pytest.mark.parametrize("how", ["long", "range"])
def test_a_size_beyond_the_database_delays_no_other_transfer(
    person: Person, web: Web, how: str
) -> None:
    begun = person.fetch(f"{web.url}/{how}/99999999999999999999", "huge.bin")
    person.turn()
    ended = person.state(begun)
    assert ended.state == TransferState.FAILED
    assert "is larger than" in (ended.error or "")


def test_a_size_that_cannot_be_stored_fails_the_transfer(
    person: Person, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MAX_FETCH_BYTES", 10**30)
    begun = person.fetch(f"{web.url}/long/99999999999999999999", "huge.bin")
    person.turn()
    assert person.state(begun).state == TransferState.FAILED
    left = person.rt.objects.unfinished(time.time() + 60)
    assert [upload for upload in left if upload.user == person.id] == []


def test_a_dead_turn_is_taken_over_and_reports_nothing_more(person: Person, web: Web) -> None:
    begun = person.fetch(f"{web.url}/files/small.txt", "small.txt")
    other = person.fetch(f"{web.url}/files/small.txt", "other.txt")
    under_way(person.rt, begun)
    carry_on(person.rt)
    assert person.state(other).state == TransferState.WAITING  # one at a time
    with person.rt.store.write() as session:
        session.get_one(TransferRow, begun.id).next_at = 0
    carry_on(person.rt)
    assert person.state(begun).state == TransferState.DONE
    assert person.to_the_end(other).state == TransferState.DONE


def test_a_transfer_whose_turns_die_is_given_up(person: Person, web: Web) -> None:
    begun = person.fetch(f"{web.url}/files/small.txt", "small.txt")
    with person.rt.store.write() as session:
        row = session.get_one(TransferRow, begun.id)
        row.state, row.failures, row.next_at = TransferState.RUNNING, 5, 0
    carry_on(person.rt)
    ended = person.state(begun)
    assert ended.state == TransferState.FAILED
    assert "gave up" in (ended.error or "")


def test_an_invalid_address_and_too_many_are_refused(
    person: Person, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in ("file:///etc/passwd", "ftp://a/b", "http://user:secret@example.org/"):
        with pytest.raises(Invalid, match="url: "):
            person.fetch(url, "a")
    monkeypatch.setattr(transfers, "MAX_OPEN_TRANSFERS", 1)
    begun = person.fetch(f"{web.url}/files/small.txt", "a")
    with pytest.raises(QuotaExceeded, match="Wait for some to end"):
        person.fetch(f"{web.url}/files/small.txt", "b")
    assert person.to_the_end(begun).state == TransferState.DONE


def test_a_user_lists_own_transfers_and_old_ones_are_removed(person: Person, web: Web) -> None:
    stranger = Person(person.rt)
    begun = person.to_the_end(person.fetch(f"{web.url}/files/small.txt", "a"))
    assert [t.id for t in transfers.transfers_of(person.rt, person.id)] == [begun.id]
    assert transfers.transfers_of(person.rt, stranger.id) == []
    with pytest.raises(ResourceNotFound):
        stranger.state(begun)
    transfers.forget_ended(person.rt, time.time() + TRANSFER_KEPT_S - 60)
    assert person.state(begun)
    transfers.forget_ended(person.rt, time.time() + TRANSFER_KEPT_S + 60)
    with pytest.raises(ResourceNotFound):
        person.state(begun)


def export(person: Person, web: Web, path: str, size: int, complete: str = "/whole") -> TransferRow:
    found = person.rt.objects.stat(person.id, path)
    assert found is not None
    urls = [f"{web.url}/{path}/{n}" for n in range(max(1, -(-found.size // size)))]
    return transfers.begin_export(person.rt, person.id, path, size, urls, web.url + complete)


@pytest.mark.parametrize("data", [BIG, b"small", b""], ids=["big", "small", "empty"])
def test_a_file_is_exported_in_parts(person: Person, web: Web, data: bytes) -> None:
    person.put("out.bin", data)
    size = LEAST_PART_BYTES
    ended = person.to_the_end(export(person, web, "out.bin", size))
    assert (ended.state, ended.error) == (TransferState.DONE, None)
    assert ended.moved == len(data)
    count = max(1, -(-len(data) // size))
    assert b"".join(web.stored[f"/out.bin/{n}"] for n in range(count)) == data
    said = web.stored["/whole"].decode()
    assert said.count("<PartNumber>") == count
    assert f'<PartNumber>{count}</PartNumber><ETag>"/out.bin/{count - 1}"</ETag>' in said


def test_an_export_that_cannot_be(person: Person, web: Web) -> None:
    person.put("out.bin", b"0123456789")
    with pytest.raises(ResourceNotFound):
        transfers.begin_export(person.rt, person.id, "none", 5, [web.url], web.url)
    with pytest.raises(Invalid, match="10 bytes in parts of 10 are 1 parts"):
        transfers.begin_export(person.rt, person.id, "out.bin", 10, [web.url] * 2, web.url)
    late = person.to_the_end(export(person, web, "out.bin", 10, "/error"))
    assert "could not join the parts" in (late.error or "")
    begun = export(person, web, "out.bin", 10)
    person.put("out.bin", b"another")
    assert "was changed" in (person.to_the_end(begun).error or "")


def test_an_export_of_small_parts_is_refused(person: Person, web: Web) -> None:
    person.put("out.bin", b"0123456789")
    with pytest.raises(Invalid, match="parts_size: 5 bytes are less than 5242880"):
        export(person, web, "out.bin", 5)


def test_an_etag_without_an_end_is_refused(
    person: Person, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    person.put("out.bin", b"0123456789")
    monkeypatch.setattr(web, "etag_end", "x" * 300)
    ended = person.to_the_end(export(person, web, "out.bin", 10))
    assert ended.state == TransferState.FAILED
    assert "part_url of part 1" in (ended.error or "")
    assert "at most 256" in (ended.error or "")
    assert ended.parts == []


def test_an_s3_makes_the_file_of_the_parts(person: Person, bucket: S3Store) -> None:
    person.put("out.bin", BIG)
    upload = bucket.begin_upload("far", "in.bin")
    size = 6 * 1024**2
    count = -(-len(BIG) // size)
    urls = [bucket.sign_part("far", "in.bin", upload, n + 1, 600) for n in range(count)]
    complete: str = bucket._client.generate_presigned_url(
        "complete_multipart_upload",
        Params={"Bucket": bucket._bucket, "Key": "t/far/in.bin", "UploadId": upload},
    )
    begun = transfers.begin_export(person.rt, person.id, "out.bin", size, urls, complete)
    assert person.to_the_end(begun).state == TransferState.DONE
    assert bucket.read("far", "in.bin", 0, len(BIG) + 1) == BIG
