"""Fetches into the storage and exports from it, as users ask for them and see them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select
from sqlalchemy.orm import defer

from scheduler.net.ssrf_guard import NotAllowed, checked_url
from scheduler.services.errors import Invalid, NotFound, QuotaExceeded
from scheduler.services.ids import new_uuid
from scheduler.services.storage.room import check_storage
from scheduler.store.models import Transfer
from simherd.contract import limits
from simherd.contract.transfers import ENDED, Kind, State
from simherd.contract.upload_grant import LEAST_PART_BYTES, MOST_PARTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.wiring import Parts

#: The background job that gives transfers their turns.
JOB = "transfer"
_OPEN = [s.value for s in State if s not in ENDED]


def begin_fetch(parts: Parts, user_id: str, url: str, path: str) -> Transfer:
    """Have a file fetched from a URL to `path`, over what is there.

    Raises:
        Invalid: it is no web address.
        QuotaExceeded: the user's storage is full, or too many transfers are under way.
    """
    check_storage(parts, user_id)
    return _begin(
        parts, Transfer(user_id=user_id, kind=Kind.FETCH, path=path, url=_url(url, "url"))
    )


def begin_export(
    parts: Parts, user_id: str, path: str, part_size: int, part_urls: Sequence[str], url: str
) -> Transfer:
    """Have a stored file sent to URLs of another storage, a part to each, and then `url` told.

    Raises:
        NotFound: nothing is stored at `path`.
        Invalid: a URL is no web address, the parts are smaller than S3 takes them, or not as
            many as the file has.
        QuotaExceeded: too many transfers are under way.
    """
    found = parts.objects.stat(user_id, path)
    if found is None:
        raise NotFound(f"path: no file is stored at {path!r}.")
    needed = max(1, -(-found.size // part_size))
    if needed > 1 and part_size < LEAST_PART_BYTES:
        raise Invalid(
            f"parts_size: {part_size} bytes are less than {LEAST_PART_BYTES}, the least that S3 "
            f"takes where there is more than one part, and {found.size} bytes make {needed}."
        )
    if len(part_urls) != needed or needed > MOST_PARTS:
        raise Invalid(
            f"upload_parts: {found.size} bytes in parts of {part_size} are {needed} parts, "
            f"at most {MOST_PARTS}; {len(part_urls)} were given."
        )
    return _begin(
        parts,
        Transfer(
            user_id=user_id,
            kind=Kind.EXPORT,
            path=path,
            url=_url(url, "complete_multipart_url"),
            part_urls=[_url(u, "part_url") for u in part_urls],
            part_size=part_size,
            size=found.size,
        ),
    )


def _url(url: str, field: str) -> str:
    try:
        return checked_url(url)
    except NotAllowed as error:
        raise Invalid(f"{field}: {error}.") from error


def _begin(parts: Parts, row: Transfer) -> Transfer:
    now = time.time()
    row.id, row.state, row.created_at, row.next_at = new_uuid(), State.WAITING, now, now
    with parts.store.write() as session:
        count = select(func.count()).where(
            Transfer.user_id == row.user_id, Transfer.state.in_(_OPEN)
        )
        if (session.scalar(count) or 0) >= limits.MAX_OPEN_TRANSFERS:
            raise QuotaExceeded(
                f"{limits.MAX_OPEN_TRANSFERS} fetches and exports are under way, as many as may "
                "be. Wait for some to end."
            )
        session.add(row)
    parts.send_job(JOB)
    return row


def transfers_of(parts: Parts, user_id: str) -> Sequence[Transfer]:
    """A user's fetches and exports, newest first, without the parts of each."""
    wanted = (
        select(Transfer)
        .where(Transfer.user_id == user_id)
        .order_by(Transfer.created_at.desc())
        .options(defer(Transfer.part_urls), defer(Transfer.parts))
    )
    with parts.store.read() as session:
        return session.scalars(wanted).all()


def transfer_of(parts: Parts, user_id: str, transfer_id: str) -> Transfer:
    """One of them. Raises NotFound."""
    with parts.store.read() as session:
        found = session.get(Transfer, transfer_id)
    if found is None or found.user_id != user_id:
        raise NotFound(f"transfer_id: there is no transfer {transfer_id!r}.")
    return found


def forget_ended(parts: Parts, now: float) -> None:
    """Drop those that ended long ago."""
    old = Transfer.ended_at < now - limits.TRANSFER_KEPT_S
    with parts.store.read() as session:
        if session.scalar(select(Transfer.id).where(old).limit(1)) is None:
            return
    with parts.store.write() as session:
        session.execute(delete(Transfer).where(old))
