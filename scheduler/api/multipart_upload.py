"""Request bodies: within a user's quota, and into a storage that takes parts of a known length,
such as S3."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from scheduler.domain.limits import MAX_INPUT_BYTES
from scheduler.services.errors import TooLarge
from simherd.contract.upload_grant import part_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.objects.base import ObjectStore, Part
    from scheduler.services.storage.room import StorageRoomClaim


def check_digest(request: Request, md5: Any) -> None:
    """Refuse a body that is not the one whose digest the request names, where it names one."""
    expected = request.headers.get("content-md5")
    if expected and expected != base64.b64encode(md5.digest()).decode():
        raise HTTPException(400, "Content-MD5: what arrived is not what was sent. Send it again.")


class CountedBody:
    """Room in a user's storage for one request's body; a body that is not counted has it."""

    def __init__(self, request: Request, make_room: Callable[[], StorageRoomClaim] | None) -> None:
        """Nothing is taken yet. `make_room` None: the body is not counted."""
        self._request, self._make_room = request, make_room
        self._room: StorageRoomClaim | None = None
        self._size = 0

    async def __aenter__(self) -> CountedBody:
        """Take room for what the request says that it brings. Raises QuotaExceeded."""
        if self._make_room is not None:
            # A longer number is refused as a body that is too large.
            given = self._request.headers.get("content-length", "")
            length = int(given) if given.isdecimal() and len(given) < 16 else 0
            self._room = await run_in_threadpool(_begun, self._make_room, length)
        return self

    async def add(self, size: int) -> None:
        """Have room for so many bytes more. Raises QuotaExceeded."""
        self._size += size
        if self._room is not None and not self._room.covers(self._size):
            await run_in_threadpool(self._room.take, self._size)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """The body is stored, or nothing of it is."""
        if self._room is None:
            return
        if kind is None:
            await run_in_threadpool(self._room.stored, self._size)
        else:
            await run_in_threadpool(self._room.give_back)


def _begun(make_room: Callable[[], StorageRoomClaim], size: int) -> StorageRoomClaim:
    room = make_room()
    room.take(size)
    return room


async def receive_in_parts(
    request: Request, store: ObjectStore, user: str, path: str, body: CountedBody
) -> None:
    """Store a request's body, of any length, part by part; the object is there once all is."""
    upload = await run_in_threadpool(store.begin_upload, user, path)
    try:
        parts = await _parts(request, store, user, path, upload, body)
        await run_in_threadpool(store.complete_upload, user, path, upload, parts)
    except BaseException:
        await run_in_threadpool(store.abort_upload, user, path, upload)
        raise


async def _parts(
    request: Request, store: ObjectStore, user: str, path: str, upload: str, body: CountedBody
) -> list[Part]:
    held, size = bytearray(), 0
    parts: list[Part] = []
    md5 = hashlib.md5(usedforsecurity=False)

    async def store_part(data: bytes) -> None:
        number = len(parts) + 1
        etag = await run_in_threadpool(store.store_part, user, path, upload, number, data)
        parts.append((number, etag))

    async for chunk in request.stream():
        held += chunk
        size += len(chunk)
        md5.update(chunk)
        if size > MAX_INPUT_BYTES:
            raise TooLarge(f"The file is larger than {MAX_INPUT_BYTES} bytes.")
        await body.add(len(chunk))
        while len(held) >= (length := part_size(len(parts) + 1)):
            with memoryview(held) as view:  # a slice of `held` itself would be one copy more
                part = bytes(view[:length])
            del held[:length]
            await store_part(part)
            del part
    if held or not parts:
        await store_part(bytes(held))
    check_digest(request, md5)
    return parts
