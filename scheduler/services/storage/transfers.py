"""Fetches into the storage and exports from it, as users start and see them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select
from sqlalchemy.orm import defer

from scheduler.net.ssrf_guard import NotAllowed, checked_url
from scheduler.services.errors import Invalid, QuotaExceeded, ResourceNotFound
from scheduler.services.ids import new_uuid
from scheduler.services.storage.room import check_storage
from scheduler.store.models import TransferRow
from simherd.contract.transfers import ENDED, TransferKind, TransferState
from simherd.contract.upload_grant import LEAST_PART_BYTES, MOST_PARTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.wiring import Runtime

#: Fetches and exports of a user that have not ended, at one time.
MAX_OPEN_TRANSFERS = 100
#: Seconds for which a fetch or an export that has ended is still shown.
TRANSFER_KEPT_S = 7 * 86400

#: The background job that gives transfers their turns.
JOB = "transfer"
_OPEN = [s.value for s in TransferState if s not in ENDED]


def begin_fetch(rt: Runtime, user_id: str, url: str, path: str) -> TransferRow:
    """Have a file fetched from a URL to `path`, replacing what is stored there.

    Raises:
        Invalid: `url` is not a web address.
        QuotaExceeded: the user's storage is full, or too many transfers are under way.
    """
    check_storage(rt, user_id)
    return _begin(
        rt, TransferRow(user_id=user_id, kind=TransferKind.FETCH, path=path, url=_url(url, "url"))
    )


def begin_export(
    rt: Runtime, user_id: str, path: str, part_size: int, part_urls: Sequence[str], url: str
) -> TransferRow:
    """Have a stored file sent to URLs of another storage, a part to each; `url` completes it.

    Raises:
        ResourceNotFound: nothing is stored at `path`.
        Invalid: a URL is not a web address, the parts are smaller than S3 takes them, or not as
            many as the file has.
        QuotaExceeded: too many transfers are under way.
    """
    info = rt.objects.stat(user_id, path)
    if info is None:
        raise ResourceNotFound(f"path: no file is stored at {path!r}.")
    needed = max(1, -(-info.size // part_size))
    if needed > 1 and part_size < LEAST_PART_BYTES:
        raise Invalid(
            f"parts_size: {part_size} bytes are less than {LEAST_PART_BYTES}, the least that S3 "
            f"takes where there is more than one part, and {info.size} bytes make {needed}."
        )
    if len(part_urls) != needed or needed > MOST_PARTS:
        raise Invalid(
            f"upload_parts: {info.size} bytes in parts of {part_size} are {needed} parts, "
            f"at most {MOST_PARTS}; {len(part_urls)} were given."
        )
    return _begin(
        rt,
        TransferRow(
            user_id=user_id,
            kind=TransferKind.EXPORT,
            path=path,
            url=_url(url, "complete_multipart_url"),
            part_urls=[_url(u, "part_url") for u in part_urls],
            part_size=part_size,
            size=info.size,
        ),
    )


def _url(url: str, field: str) -> str:
    try:
        return checked_url(url)
    except NotAllowed as error:
        raise Invalid(f"{field}: {error}.") from error


def _begin(rt: Runtime, row: TransferRow) -> TransferRow:
    now = time.time()
    row.id, row.state, row.created_at, row.next_at = new_uuid(), TransferState.WAITING, now, now
    with rt.store.write() as session:
        count = select(func.count()).where(
            TransferRow.user_id == row.user_id, TransferRow.state.in_(_OPEN)
        )
        if (session.scalar(count) or 0) >= MAX_OPEN_TRANSFERS:
            raise QuotaExceeded(
                f"{MAX_OPEN_TRANSFERS} fetches and exports are under way, as many as may "
                "be. Wait for some to end."
            )
        session.add(row)
    rt.send_job(JOB)
    return row


def transfers_of(rt: Runtime, user_id: str) -> Sequence[TransferRow]:
    """A user's fetches and exports, newest first, without the parts of each."""
    query = (
        select(TransferRow)
        .where(TransferRow.user_id == user_id)
        .order_by(TransferRow.created_at.desc())
        .options(defer(TransferRow.part_urls), defer(TransferRow.parts))
    )
    with rt.store.read() as session:
        return session.scalars(query).all()


def transfer_of(rt: Runtime, user_id: str, transfer_id: str) -> TransferRow:
    """Return a user's fetch or export by id. Raises ResourceNotFound."""
    with rt.store.read() as session:
        row = session.get(TransferRow, transfer_id)
    if row is None or row.user_id != user_id:
        raise ResourceNotFound(f"transfer_id: there is no transfer {transfer_id!r}.")
    return row


def forget_ended(rt: Runtime, now: float) -> None:
    """Delete the fetches and exports that ended long ago."""
    old = TransferRow.ended_at < now - TRANSFER_KEPT_S
    with rt.store.read() as session:
        if session.scalar(select(TransferRow.id).where(old).limit(1)) is None:
            return
    with rt.store.write() as session:
        session.execute(delete(TransferRow).where(old))
