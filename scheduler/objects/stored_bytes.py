"""The bytes that each user has stored: a listing, which is used for a while.

A listing is slow with many objects, and outputs of tasks reach the storage by URLs that lead past
the scheduler.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.objects.base import ObjectStore

log = logging.getLogger(__name__)

#: Seconds for which a listing is used, at least.
_FRESH_S = 60.0
#: A listing is used for at least so many times as long as it took: with very many objects, listing
#: remains a small part of what a process does.
_FRESH_FACTOR = 20
#: Seconds for which a caller that only shows the number waits for a listing.
_SHOWN_AFTER_S = 2.0
#: An expired listing is used for so many times longer while a new one is made.
_STALE_FACTOR = 5


@dataclass(frozen=True)
class StoredListing:
    """The result of a listing.

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
        """List nothing yet.

        `clock`: the one clock of all processes, seconds since the epoch; `fresh_s`: seconds for
        which a listing is used, at least.
        """
        self._objects = objects
        self._clock = clock
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._known: dict[str, StoredListing] = {}
        self._user_locks: dict[str, threading.Lock] = {}
        #: Users who have removed something since their storage was listed.
        self._removers: set[str] = set()
        #: Listings in the background, by user.
        self._refreshes: dict[str, threading.Thread] = {}

    def bytes_of(self, user_id: str, fresh_s: float | None = None) -> int:
        """Return the bytes that a user has stored; see `listing`."""
        return self.listing(user_id, fresh_s).size

    def listing(self, user_id: str, fresh_s: float | None = None) -> StoredListing:
        """Return what a user has stored, at most a minute old, or older with many objects.

        `fresh_s`: another limit instead of the minute, seconds; with many objects a listing is used
        for longer all the same. With 0, it has seen what this process removed.
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
                # No caller waits for a long listing as long as the known one will do.
                self._refresh(user_id, known)
                return known
        return self._list(user_id, known)

    def note_removed(self, user_id: str) -> None:
        """Record that a user removed something: a caller that needs the room lists again."""
        self._removers.add(user_id)

    def listing_soon(self, user_id: str, wait_s: float = _SHOWN_AFTER_S) -> StoredListing | None:
        """Return what a user has stored, to be shown: after at most `wait_s` seconds the listing
        before, or None where there is none."""
        known = self._known.get(user_id)
        if known is None or time.monotonic() - known.ended >= self._fresh_s:
            self._refresh(user_id, known).join(wait_s)
        return self._known.get(user_id)

    def _refresh(self, user_id: str, known: StoredListing | None) -> threading.Thread:
        """List a user's storage in the background, once at a time."""

        def run() -> None:
            try:
                self._list(user_id, known)
            except Exception as error:  # the next caller that waits for a listing sees the error
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
    """Return the seconds for which additions are kept: longer than any process uses a listing
    that has not seen them."""
    return 2 * _STALE_FACTOR * max(_FRESH_S, listing.took_s * _FRESH_FACTOR)
