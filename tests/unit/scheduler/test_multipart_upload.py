"""Request bodies: counted against a quota, and stored in parts."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import TYPE_CHECKING, Any, cast

import pytest
from fastapi import HTTPException, Request

from scheduler.api import multipart_upload
from scheduler.api.multipart_upload import CountedBody, check_digest, receive_in_parts
from scheduler.services.errors import TooLarge

if TYPE_CHECKING:
    from scheduler.objects.base import ObjectStore
    from scheduler.services.storage.room import StorageRoomClaim


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart_upload, "part_size", lambda number: 4 if number < 3 else 8)


class _Store:
    def __init__(self, fails_at: int = 0) -> None:
        self.parts: list[bytes] = []
        self.ended: list[str] = []
        self._fails_at = fails_at

    def begin_upload(self, _user: str, _path: str) -> str:
        return "upload"

    def store_part(self, _user: str, _path: str, _upload: str, number: int, data: bytes) -> str:
        if number == self._fails_at:
            raise OSError("the storage broke down")
        self.parts.append(data)
        return f"etag{number}"

    def complete_upload(self, _user: str, _path: str, _upload: str, parts: Any) -> None:
        assert parts == [(n, f"etag{n}") for n in range(1, len(self.parts) + 1)]
        self.ended.append("complete")

    def abort_upload(self, *_: str) -> None:
        self.ended.append("abort")


class _Room:
    def __init__(self) -> None:
        self.taken = 0
        self.calls: list[str] = []

    def covers(self, size: int) -> bool:
        return size <= self.taken

    def take(self, size: int) -> None:
        self.taken = size
        self.calls.append(f"take {size}")

    def stored(self, size: int) -> None:
        self.calls.append(f"stored {size}")

    def give_back(self) -> None:
        self.calls.append("give back")


def _request(chunks: list[bytes], **headers: str) -> Request:
    messages = [
        {"type": "http.request", "body": chunk, "more_body": n + 1 < len(chunks)}
        for n, chunk in enumerate(chunks)
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    encoded = [(n.replace("_", "-").encode(), v.encode()) for n, v in headers.items()]
    return Request({"type": "http", "method": "PUT", "headers": encoded}, receive)


def _receive(request: Request, store: _Store, room: _Room | None = None) -> None:
    async def run() -> None:
        make = None if room is None else lambda: cast("StorageRoomClaim", room)
        async with CountedBody(request, make) as body:
            await receive_in_parts(request, cast("ObjectStore", store), "u", "p", body)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("chunks", "parts"),
    [
        ([b""], [b""]),
        ([b"abc"], [b"abc"]),
        ([b"abcd"], [b"abcd"]),
        ([b"ab", b"cd", b"e"], [b"abcd", b"e"]),
        ([b"a"] * 9, [b"aaaa", b"aaaa", b"a"]),
        ([b"abcdefghijklmnopqrstu"], [b"abcd", b"efgh", b"ijklmnop", b"qrstu"]),
    ],
)
def test_a_body_is_cut_into_parts_of_known_sizes(chunks: list[bytes], parts: list[bytes]) -> None:
    store = _Store()
    _receive(_request(chunks), store)
    assert store.parts == parts
    assert store.ended == ["complete"]


def test_a_body_that_is_too_large_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart_upload, "MAX_INPUT_BYTES", 5)
    store = _Store()
    with pytest.raises(TooLarge, match="larger than 5 bytes"):
        _receive(_request([b"abc", b"def"]), store)
    assert store.ended == ["abort"]


def test_a_storage_that_fails_aborts_the_upload_and_gives_the_room_back() -> None:
    store, room = _Store(fails_at=2), _Room()
    with pytest.raises(OSError, match="broke down"):
        _receive(_request([b"abcdefgh"]), store, room)
    assert store.ended == ["abort"]
    assert room.calls[-1] == "give back"


def test_a_body_of_announced_length_takes_its_room_once() -> None:
    room = _Room()
    _receive(_request([b"ab", b"cd"], content_length="4"), _Store(), room)
    assert room.calls == ["take 4", "stored 4"]


def test_a_body_of_unknown_length_takes_room_as_it_arrives() -> None:
    room = _Room()
    _receive(_request([b"ab", b"cd"]), _Store(), room)
    assert room.calls == ["take 0", "take 2", "take 4", "stored 4"]


@pytest.mark.parametrize("length", ["", "x", "-1", "1" * 16, "1.5"])
def test_a_length_that_cannot_be_read_takes_no_room_ahead(length: str) -> None:
    room = _Room()
    _receive(_request([b""], content_length=length), _Store(), room)
    assert room.calls[0] == "take 0"


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def test_a_body_with_its_right_digest_is_stored() -> None:
    store = _Store()
    _receive(_request([b"abc"], content_md5=_md5(b"abc")), store)
    assert store.ended == ["complete"]


def test_a_body_with_a_wrong_digest_is_aborted() -> None:
    store = _Store()
    with pytest.raises(HTTPException, match="Content-MD5"):
        _receive(_request([b"abc"], content_md5=_md5(b"abd")), store)
    assert store.ended == ["abort"]


def test_a_request_without_a_digest_is_not_checked() -> None:
    check_digest(_request([]), hashlib.md5(b"", usedforsecurity=False))
