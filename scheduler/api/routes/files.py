"""The file plane: signed URLs carry their own credential."""

from __future__ import annotations

import hashlib
import os
import secrets
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from fastapi import HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, RedirectResponse

from scheduler.api.deps import RuntimeDep
from scheduler.api.multipart_upload import CountedBody, check_digest, receive_in_parts
from scheduler.api.strict import StrictRouter
from scheduler.domain.limits import MAX_INPUT_BYTES
from scheduler.objects.file_urls import COUNTED_UPLOAD, ROUTE
from scheduler.objects.folder import TEMPORARY, FolderStore
from scheduler.services.errors import TooLarge
from scheduler.services.storage.browse import readable_path
from scheduler.services.storage.room import StorageRoomClaim
from simherd.contract import limits, objects
from simherd.contract.upload_grant import PART_VERB, part_offset, part_size

if TYPE_CHECKING:
    from pathlib import Path

router = StrictRouter(tags=["files"])

#: Bytes gathered before they are written: small chunks would cost a thread hop each.
_WRITE_BYTES = 1024 * 1024


def _checked(rt: RuntimeDep, verb: str, path: str, user: str, expires: str, signature: str) -> str:
    """The path that a URL was signed for."""
    try:
        clean = objects.normalise(path)
        allowed = rt.file_urls.verified(user, clean, verb, expires, signature)
    except ValueError:
        allowed = False
    if not allowed:
        raise HTTPException(403, "The URL is not valid, or no longer. Ask for a new one.")
    return clean


@router.api_route(ROUTE + "/{path:path}", methods=["GET", "HEAD"], response_model=None)
def download(
    request: Request, rt: RuntimeDep, path: str, user: str, verb: str, expires: str, signature: str
) -> Response:
    """Send a stored file or a range of it, or redirect to the storage."""
    if verb != "download":
        raise HTTPException(403, "The URL was signed for an upload.")
    clean = _checked(rt, verb, path, user, expires, signature)
    info = rt.objects.stat(user, readable_path(rt, user, clean))
    if info is None:
        raise HTTPException(404, f"Nothing is stored at {path!r}.")
    if isinstance(rt.objects, FolderStore):
        file = rt.objects.file(user, info.path)
        return FileResponse(file, media_type="application/octet-stream")
    if request.method == "HEAD":
        return Response(headers={"Content-Length": str(info.size), "Accept-Ranges": "bytes"})
    url = rt.objects.sign(user, info.path, "download", limits.USER_URL_S, public=True)
    return RedirectResponse(url, 307)


@router.put(ROUTE + "/{path:path}", response_model=None)
async def upload(
    request: Request, rt: RuntimeDep, path: str, user: str, verb: str, expires: str, signature: str
) -> Response:
    """Store a file, whole or not at all. An upload that exceeds the user's quota for storage is
    refused, at the latest when it does."""
    clean = _checked(rt, verb, path, user, expires, signature)
    if verb.startswith(f"{PART_VERB}:"):
        return await _upload_part(request, rt, user, clean, verb)
    if verb not in ("upload", COUNTED_UPLOAD):
        raise HTTPException(403, "The URL was signed for a download.")
    counted = partial(StorageRoomClaim, rt, user, clean) if verb == COUNTED_UPLOAD else None
    async with CountedBody(request, counted) as body:
        if isinstance(rt.objects, FolderStore):
            await _into_folder(request, rt.objects, user, clean, body)
        else:
            with request.app.state.uploads.entered(user):
                await receive_in_parts(request, rt.objects, user, clean, body)
    return Response(status_code=200)


async def _into_folder(
    request: Request, store: FolderStore, user: str, path: str, body: CountedBody
) -> None:
    file = await run_in_threadpool(store.room_for, user, path)
    temporary = file.with_name(TEMPORARY + secrets.token_hex(8))
    try:
        await _receive(request, temporary, body=body)
        await run_in_threadpool(os.replace, temporary, file)
    finally:
        await run_in_threadpool(temporary.unlink, missing_ok=True)


async def _upload_part(
    request: Request, rt: RuntimeDep, user: str, path: str, verb: str
) -> Response:
    """Write a part to its place in the file that becomes the object once it is complete."""
    _, upload, number = verb.split(":")
    assert isinstance(rt.objects, FolderStore)
    file = rt.objects.part_file(user, path, upload)
    if not await run_in_threadpool(file.exists):
        raise HTTPException(404, "There is no such upload, or no longer.")
    digest = await _receive(request, file, part_offset(int(number)), part_size(int(number)))
    return Response(status_code=200, headers={"ETag": f'"{digest}"'})


async def _receive(
    request: Request,
    into: Path,
    at: int = 0,
    most: int = MAX_INPUT_BYTES,
    body: CountedBody | None = None,
) -> str:
    """Write a request's body to a file from the position `at` on; return its MD5 in hex."""
    size, gathered = 0, bytearray()
    md5 = hashlib.md5(usedforsecurity=False)
    with into.open("r+b" if at or into.exists() else "xb") as file:
        file.seek(at)
        async for chunk in request.stream():
            size += len(chunk)
            if size > most:
                raise TooLarge(f"The file is larger than {most} bytes.")
            if body is not None:
                await body.add(len(chunk))
            gathered += chunk
            if len(gathered) >= _WRITE_BYTES:
                await run_in_threadpool(_store, file, md5, bytes(gathered))
                gathered.clear()
        await run_in_threadpool(_store, file, md5, bytes(gathered))
    check_digest(request, md5)
    return md5.hexdigest()


def _store(file: IO[bytes], md5: Any, data: bytes) -> None:
    md5.update(data)
    file.write(data)
