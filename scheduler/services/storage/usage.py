"""How much a user has stored: listed, then believed for a while, with what was added since.

A listing is slow with many objects, and outputs of tasks reach the storage by URLs that lead past
the scheduler. What users store comes through it, and is added to what the last listing has seen:
see `storage_room.py`.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, bindparam, func, or_, select

from scheduler.store.models import StorageRoom

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from scheduler.objects.base import ObjectStore
    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)

#: Seconds for which a listing is believed at the least.
_FRESH_S = 60.0
#: So many times as long as it took it is believed at the least: listing what holds very many
#: objects is never more than a small part of what a process does.
_FRESH_FACTOR = 20
# Every upload asks this.
_ADDED = select(func.sum(StorageRoom.bytes)).where(
    StorageRoom.user_id == bindparam("user"),
    or_(
        and_(StorageRoom.stored_at.is_(None), StorageRoom.expires_at > bindparam("now")),
        StorageRoom.stored_at >= bindparam("begun_at"),
    ),
)
#: Seconds for which somebody who only looks waits for a listing.
_SHOWN_AFTER_S = 2.0
#: So many times as long as a listing is believed, it is still used while a new one is made.
_STALE_FACTOR = 5


@dataclass(frozen=True)
class StoredListing:
    """What a listing has found.

    Attributes:
        size: bytes.
        begun_at: when it was begun, seconds since the epoch by the store's clock.
        took_s: how long it took, seconds.
        ended: when it ended, by this process' monotonic clock.
    """

    size: int
    begun_at: float
    took_s: float
    ended: float


class StoredBytes:
    """Counts by listing the storage. Safe to use from several threads; each process has its own."""

    def __init__(
        self,
        objects: ObjectStore,
        clock: Callable[[], float] = time.time,
        fresh_s: float = _FRESH_S,
    ) -> None:
        """Nothing is listed yet.

        Args:
            objects: the storage.
            clock: the one clock of all processes, seconds since the epoch.
            fresh_s: seconds for which a listing is believed at the least.
        """
        self._objects = objects
        self._clock = clock
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._known: dict[str, StoredListing] = {}
        self._user_locks: dict[str, threading.Lock] = {}
        #: Those who have removed something since their storage was listed.
        self._removers: set[str] = set()
        #: What lists users' storages in the background.
        self._refreshes: dict[str, threading.Thread] = {}

    def bytes_of(self, user_id: str, fresh_s: float | None = None) -> int:
        """Bytes that a user has stored; see `listing`."""
        return self.listing(user_id, fresh_s).size

    def listing(self, user_id: str, fresh_s: float | None = None) -> StoredListing:
        """What a user has stored, as of a minute ago at the worst, or longer with many objects.

        `fresh_s`: seconds for which an answer is good for this question, instead of a minute; with
        many objects it is good for longer all the same. With 0, it has seen what was removed by way
        of this process.
        """
        known = self._known.get(user_id)
        if known is not None and not (fresh_s == 0 and user_id in self._removers):
            age = time.monotonic() - known.ended
            good_s = max(
                self._fresh_s if fresh_s is None else fresh_s, known.took_s * _FRESH_FACTOR
            )
            if age < good_s:
                return known
            if fresh_s is None and age < good_s * _STALE_FACTOR:
                # Nobody waits for a long listing as long as what is known will do.
                self._refresh(user_id, known)
                return known
        return self._list(user_id, known)

    def note_removed(self, user_id: str) -> None:
        """Something of a user's was removed: whoever needs the room has the storage listed anew."""
        self._removers.add(user_id)

    def listing_soon(self, user_id: str, wait_s: float = _SHOWN_AFTER_S) -> StoredListing | None:
        """What a user has stored, for somebody who only looks: after `wait_s` seconds at the most,
        the listing before where there is one, else None."""
        known = self._known.get(user_id)
        if known is None or time.monotonic() - known.ended >= self._fresh_s:
            self._refresh(user_id, known).join(wait_s)
        return self._known.get(user_id)

    def _refresh(self, user_id: str, known: StoredListing | None) -> threading.Thread:
        """List a user's storage in the background, once at a time."""

        def run() -> None:
            try:
                self._list(user_id, known)
            except Exception as error:  # the next one who has to wait for it sees the error
                log.warning("event=listing_failed user=%s error=%s", user_id, error)
            finally:
                with self._lock:
                    del self._refreshes[user_id]

        with self._lock:
            if user_id not in self._refreshes:
                thread = threading.Thread(target=run, daemon=True, name="listing")
                self._refreshes[user_id] = thread
                thread.start()
            return self._refreshes[user_id]

    def _list(self, user_id: str, known: StoredListing | None) -> StoredListing:
        """List a user's storage, unless another thread has done so since `known`."""
        with self._lock:
            user_lock = self._user_locks.setdefault(user_id, threading.Lock())
        with user_lock:
            newest = self._known.get(user_id)
            if newest is not None and newest is not known:
                return newest
            self._removers.discard(user_id)
            begun_at, begun = self._clock(), time.monotonic()
            size = sum(info.size for info in self._objects.list(user_id, ""))
            ended = time.monotonic()
            listing = StoredListing(size, begun_at, ended - begun, ended)
            self._known[user_id] = listing
            return listing


def kept_s(listing: StoredListing) -> float:
    """Seconds for which what was stored is remembered: longer than any process believes a listing
    that has not seen it."""
    return 2 * _STALE_FACTOR * max(_FRESH_S, listing.took_s * _FRESH_FACTOR)


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
