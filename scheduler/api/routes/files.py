"""The file plane of the folder storage: signed URLs carry their own credential."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse

from scheduler.api.deps import PartsDep
from scheduler.objects.folder import ROUTE, TEMPORARY, FolderStore
from scheduler.services.errors import TooLarge
from simherd.contract import limits, objects

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
    if verb != "upload":
        raise HTTPException(403, "The URL was signed for a download.")
    file = _target(parts, verb, path, user, expires, signature)
    await run_in_threadpool(file.parent.mkdir, parents=True, exist_ok=True)
    temporary = file.with_name(TEMPORARY + secrets.token_hex(8))
    try:
        await _receive(request, temporary)
        await run_in_threadpool(os.replace, temporary, file)
    finally:
        await run_in_threadpool(temporary.unlink, missing_ok=True)
    return Response(status_code=200)


async def _receive(request: Request, into: Path) -> None:
    size, gathered = 0, bytearray()
    with into.open("xb") as file:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limits.MAX_INPUT_BYTES:
                raise TooLarge(f"The file is larger than {limits.MAX_INPUT_BYTES} bytes.")
            gathered += chunk
            if len(gathered) >= _WRITE_BYTES:
                await run_in_threadpool(file.write, bytes(gathered))
                gathered.clear()
        await run_in_threadpool(file.write, bytes(gathered))
