"""Request bodies into a storage that takes parts of a known length, such as S3."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from scheduler.services.errors import TooLarge
from simherd.contract import limits
from simherd.contract.uploads import part_size

if TYPE_CHECKING:
    from scheduler.objects.base import ObjectStore, Part


def check_digest(request: Request, md5: Any) -> None:
    """Refuse a body that is not the one whose digest the request names, where it names one."""
    expected = request.headers.get("content-md5")
    if expected and expected != base64.b64encode(md5.digest()).decode():
        raise HTTPException(400, "Content-MD5: what arrived is not what was sent. Send it again.")


async def receive_in_parts(request: Request, store: ObjectStore, user: str, path: str) -> None:
    """Store a request's body, of any length, part by part; the object is there once all is."""
    upload = await run_in_threadpool(store.begin_upload, user, path)
    try:
        parts = await _parts(request, store, user, path, upload)
        await run_in_threadpool(store.complete_upload, user, path, upload, parts)
    except BaseException:
        await run_in_threadpool(store.abort_upload, user, path, upload)
        raise


async def _parts(
    request: Request, store: ObjectStore, user: str, path: str, upload: str
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
        if size > limits.MAX_INPUT_BYTES:
            raise TooLarge(f"The file is larger than {limits.MAX_INPUT_BYTES} bytes.")
        while len(held) >= (length := part_size(len(parts) + 1)):
            await store_part(bytes(held[:length]))
            del held[:length]
    if held or not parts:
        await store_part(bytes(held))
    check_digest(request, md5)
    return parts
