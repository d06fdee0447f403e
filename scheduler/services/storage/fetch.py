"""Fetching a file from a URL into the storage, part by part, continued by each turn."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from scheduler.services.errors import TooLarge
from scheduler.services.storage.room import StorageRoomClaim
from scheduler.services.storage.transfer_turn import MOST_ETAG, Again, check_response
from simherd.contract.upload_grant import part_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from scheduler.services.storage.transfer_turn import Turn
    from scheduler.store.models import TransferRow
    from scheduler.wiring import Runtime

#: Largest file that is fetched from a URL into the storage, bytes.
MAX_FETCH_BYTES = 64 * 1024**3

#: No file is so large that its size has more digits.
_RANGE = re.compile(r"bytes (?:([0-9]{1,20})-[0-9]{1,20}|\*)/([0-9]{1,20})")
_LENGTH = re.compile(r"[0-9]{1,20}")


def fetch_some(rt: Runtime, turn: Turn) -> bool:
    """Fetch as much as there is time for; return whether the whole file is stored.

    Raises:
        Again: the next turn may do better.
        ServiceError: the other server refuses, the file is too large, or it exceeds the quota.
        NotAllowed: users' requests must not go to the URL's address.
        PathTaken: nothing can be stored at this path.
    """
    row = turn.row
    # Kept from turn to turn under the transfer's own id.
    room = StorageRoomClaim(rt, row.user_id, row.path, room_id=row.id)
    room.take(max(row.moved, row.size or 0))
    if row.upload is None:
        row.upload = rt.objects.begin_upload(row.user_id, row.path)
    if row.size is None or row.moved < row.size or not row.parts:
        headers = {"Accept-Encoding": "identity", **_going_on(row)}
        with (
            turn.client(rt.settings) as client,
            client.stream("GET", row.url, headers=headers, follow_redirects=True) as response,
        ):
            if not _store(rt, turn, room, _rest(rt, row, response)):
                return False
    done = [(number, etag) for number, etag in row.parts]
    row.size = rt.objects.complete_upload(row.user_id, row.path, row.upload, done)
    room.stored(row.size)
    return True


def _going_on(row: TransferRow) -> dict[str, str]:
    if not row.moved:
        return {}
    condition = {"If-Range": row.validator} if row.validator else {}
    return {"Range": f"bytes={row.moved}-", **condition}


def _rest(rt: Runtime, row: TransferRow, response: httpx.Response) -> Iterator[bytes]:
    """Return the bytes that are not stored yet."""
    content_range = _RANGE.fullmatch(response.headers.get("content-range", ""))
    if response.status_code == 416 and content_range and int(content_range[2]) == row.moved:
        return iter(())  # The size was unknown, and the whole file is here.
    if response.status_code != 416 or not row.moved:
        check_response(response, "url")
    validator = _validator(response)
    total = int(content_range[2]) if content_range else _length(response)
    in_place = response.status_code != 206 or (content_range and content_range[1] == str(row.moved))
    same = validator == row.validator and (row.size is None or total == row.size)
    if row.moved and not (in_place and same and response.is_success):
        _start_over(rt, row)
        raise Again("url: the file has changed meanwhile. It is fetched from its beginning.")
    # Before it is stored: the number may be too large for the database.
    if total is not None and total > MAX_FETCH_BYTES:
        raise _too_large()
    row.validator, row.size = validator, total
    # A server that does not support ranges sends the whole file each time.
    skip = 0 if response.status_code == 206 else row.moved
    return _without_first(response.iter_raw(), skip)


def _length(response: httpx.Response) -> int | None:
    given = response.headers.get("content-length", "")
    return int(given) if _LENGTH.fullmatch(given) else None


def _validator(response: httpx.Response) -> str | None:
    """Return what identifies this version of the file; a weak ETag must not be used for it."""
    etag: str = response.headers.get("etag", "")
    validator = etag if etag.startswith('"') else response.headers.get("last-modified")
    return validator if len(validator or "") <= MOST_ETAG else None


def _start_over(rt: Runtime, row: TransferRow) -> None:
    if row.upload is not None:
        rt.objects.abort_upload(row.user_id, row.path, row.upload)
    row.upload, row.parts, row.moved = None, [], 0
    row.validator = row.size = None


def _without_first(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk[count:]
        count = max(0, count - len(chunk))


def _store(rt: Runtime, turn: Turn, room: StorageRoomClaim, chunks: Iterator[bytes]) -> bool:
    """Store what arrives; return whether that was the rest of the file."""
    row, held = turn.row, bytearray()
    for chunk in chunks:
        turn.check()
        held += chunk
        room.take(max(row.moved + len(held), row.size or 0))
        if row.moved + len(held) > MAX_FETCH_BYTES:
            raise _too_large()
        while len(held) >= (size := part_size(len(row.parts) + 1)):
            _store_part(rt, row, bytes(held[:size]))
            del held[:size]
            if not turn.goes_on():
                return False
    if held or not row.parts:
        _store_part(rt, row, bytes(held))
    return True


def _store_part(rt: Runtime, row: TransferRow, data: bytes) -> None:
    assert row.upload is not None
    number = len(row.parts) + 1
    etag = rt.objects.store_part(row.user_id, row.path, row.upload, number, data)
    row.parts.append([number, etag])
    row.moved += len(data)


def _too_large() -> TooLarge:
    return TooLarge(f"url: the file is larger than {MAX_FETCH_BYTES} bytes, the most.")
