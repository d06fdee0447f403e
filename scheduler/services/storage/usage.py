"""The bytes that a user has in use: listed, with what was added since the listing began.

What users store comes through the scheduler, and is added to what the last listing has seen: see
`room.py`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import and_, bindparam, func, or_, select

from scheduler.store.models import StorageRoom

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from scheduler.objects.stored_bytes import StoredListing
    from scheduler.wiring import Runtime

# Every upload asks this.
_ADDED = select(func.sum(StorageRoom.bytes)).where(
    StorageRoom.user_id == bindparam("user"),
    or_(
        and_(StorageRoom.stored_at.is_(None), StorageRoom.expires_at > bindparam("now")),
        StorageRoom.stored_at >= bindparam("begun_at"),
    ),
)


def added_bytes(session: Session, user_id: str, listing: StoredListing, now: float) -> int:
    """Bytes that are promised, under way, or stored since a listing was begun."""
    facts = {"user": user_id, "now": now, "begun_at": listing.begun_at}
    return int(session.connection().scalar(_ADDED, facts) or 0)


def used_bytes(rt: Runtime, user_id: str) -> int | None:
    """Bytes of a user's storage that are in use, to be shown: stored, under way, or promised; None
    while they are being counted for the first time."""
    listing = rt.stored.listing_soon(user_id)
    if listing is None:
        return None
    with rt.store.read() as session:
        return listing.size + added_bytes(session, user_id, listing, time.time())
