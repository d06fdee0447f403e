"""The file plane of the folder storage: signed URLs carry their own credential."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from typing import IO, TYPE_CHECKING, Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse

from scheduler.api.deps import PartsDep
from scheduler.objects.folder import ROUTE, TEMPORARY, FolderStore
from scheduler.services.errors import TooLarge
from simherd.contract import limits, objects
from simherd.contract.uploads import PART_VERB, part_offset, part_size

if TYPE_CHECKING:
    from pathlib import Path

router = APIRouter(tags=["files"])

#: Bytes gathered before they are written: small chunks would cost a thread hop each.
_WRITE_BYTES = 1024 * 1024


def _target(parts: PartsDep, verb: str, path: str, user: str, expires: str, signature: str) -> Path:
    store = parts.objects
    try:
        clean = objects.normalise(path)
        allowed = isinstance(store, FolderStore) and store.verified(
            user, clean, verb, expires, signature
        )
    except ValueError:
        allowed = False
    if not allowed or not isinstance(store, FolderStore):
        raise HTTPException(403, "The URL is not valid, or no longer. Ask for a new one.")
    return store.file(user, clean)


@router.api_route(ROUTE + "/{path:path}", methods=["GET", "HEAD"], response_model=None)
def download(
    parts: PartsDep, path: str, user: str, verb: str, expires: str, signature: str
) -> FileResponse:
    """Send a stored file, whole or a range of it."""
    if verb != "download":
        raise HTTPException(403, "The URL was signed for an upload.")
    file = _target(parts, verb, path, user, expires, signature)
    if not file.is_file():
        raise HTTPException(404, f"Nothing is stored at {path!r}.")
    return FileResponse(file, media_type="application/octet-stream")


@router.put(ROUTE + "/{path:path}", response_model=None)
async def upload(
    request: Request,
    parts: PartsDep,
    path: str,
    user: str,
    verb: str,
    expires: str,
    signature: str,
) -> Response:
    """Store a file: it is there whole, or not at all."""
    if verb.startswith(f"{PART_VERB}:"):
        return await _upload_part(request, parts, path, user, verb, expires, signature)
    if verb != "upload":
        raise HTTPException(403, "The URL was signed for a download.")
    _target(parts, verb, path, user, expires, signature)
    assert isinstance(parts.objects, FolderStore)
    file = await run_in_threadpool(parts.objects.room_for, user, objects.normalise(path))
    temporary = file.with_name(TEMPORARY + secrets.token_hex(8))
    try:
        await _receive(request, temporary)
        await run_in_threadpool(os.replace, temporary, file)
    finally:
        await run_in_threadpool(temporary.unlink, missing_ok=True)
    return Response(status_code=200)


async def _upload_part(
    request: Request,
    parts: PartsDep,
    path: str,
    user: str,
    verb: str,
    expires: str,
    signature: str,
) -> Response:
    """Put a part to its place in the file that becomes the object when all are there."""
    _target(parts, verb, path, user, expires, signature)
    _, upload, number = verb.split(":")
    assert isinstance(parts.objects, FolderStore)
    file = parts.objects.part_file(user, objects.normalise(path), upload)
    if not await run_in_threadpool(file.exists):
        raise HTTPException(404, "There is no such upload, or no longer.")
    digest = await _receive(request, file, part_offset(int(number)), part_size(int(number)))
    return Response(status_code=200, headers={"ETag": f'"{digest}"'})


async def _receive(
    request: Request, into: Path, at: int = 0, most: int = limits.MAX_INPUT_BYTES
) -> str:
    """Write a request's body to a file from the position `at` on; answers its MD5, in hex."""
    size, gathered = 0, bytearray()
    md5 = hashlib.md5(usedforsecurity=False)
    with into.open("r+b" if at or into.exists() else "xb") as file:
        file.seek(at)
        async for chunk in request.stream():
            size += len(chunk)
            if size > most:
                raise TooLarge(f"The file is larger than {most} bytes.")
            gathered += chunk
            if len(gathered) >= _WRITE_BYTES:
                await run_in_threadpool(_store, file, md5, bytes(gathered))
                gathered.clear()
        await run_in_threadpool(_store, file, md5, bytes(gathered))
    expected = request.headers.get("content-md5")
    if expected and expected != base64.b64encode(md5.digest()).decode():
        raise HTTPException(400, "Content-MD5: what arrived is not what was sent. Send it again.")
    return md5.hexdigest()


def _store(file: IO[bytes], md5: Any, data: bytes) -> None:
    md5.update(data)
    file.write(data)
