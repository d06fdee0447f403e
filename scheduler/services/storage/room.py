"""Room in a user's storage, taken before bytes are stored there: so that however many URLs are
signed and however many uploads go on at once, all of them together stay within the quota.

A signed URL whose size was announced takes its room for as long as it is good. An upload takes
its room when it begins, in place of what its URL had; where its length is not known, step by step.
What was stored counts until a listing of the storage has seen it. Outputs of tasks take no room
here: a quota must not cost results; they are seen by the next listing.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, bindparam, delete, or_, update

from scheduler.objects.file_urls import COUNTED_UPLOAD
from scheduler.objects.stored_bytes import kept_s
from scheduler.services.billing.quotas import Quota, how_to_raise, locked_quotas, quotas_of
from scheduler.services.errors import QuotaExceeded
from scheduler.services.ids import new_uuid
from scheduler.services.storage.usage import added_bytes
from scheduler.store.models import StorageRoom
from simherd.contract import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy.orm import Session

    from scheduler.objects.stored_bytes import StoredListing
    from scheduler.wiring import Runtime

#: Bytes by which room in a user's storage is taken for an upload whose length is not known, and the
#: share of what is left that such a step has at the most: uploads beside it need room, too.
ROOM_STEP_BYTES = 64 * 1024**2
ROOM_STEP_SHARE = 1 / 64
#: Seconds for which the room of an upload is kept without a sign of it: longer than any
#: pause that a connection survives. It is renewed while bytes arrive.
ROOM_KEPT_S = 3600.0

_GIB = 1024**3
_QUOTA = Quota.MAX_STORAGE_GB
#: Paths that are looked for in one statement.
_AT_ONCE = 500
# Every upload runs these: building them again would cost more than running them.
_OWN = StorageRoom.user_id == bindparam("user")
_IS_STORED = StorageRoom.stored_at.is_not(None)
_FORGET = delete(StorageRoom).where(
    _OWN,
    or_(
        and_(~_IS_STORED, StorageRoom.expires_at <= bindparam("now")),
        StorageRoom.stored_at < bindparam("seen"),
        StorageRoom.id == bindparam("but"),
        and_(StorageRoom.promised, StorageRoom.path.in_(bindparam("paths", expanding=True))),
    ),
)
_REPLACE = delete(StorageRoom).where(_OWN, _IS_STORED, StorageRoom.path == bindparam("at"))
_NOTE_STORED = (
    update(StorageRoom)
    .where(StorageRoom.id == bindparam("room"))
    .values(bytes=bindparam("size"), stored_at=bindparam("moment"))
)


@dataclass(frozen=True)
class RequestedUpload:
    """An upload that a URL is to be signed for; `size` in bytes, None: not announced."""

    path: str
    size: int | None = None


def sign_uploads(rt: Runtime, user_id: str, uploads: Sequence[RequestedUpload]) -> list[str]:
    """Sign URLs for uploads into a user's storage, and take the room that they announce.
    Raises QuotaExceeded: the storage is full, or the announced sizes do not fit."""
    needed = sum(upload.size or 0 for upload in uploads)
    paths = [upload.path for upload in uploads]

    def promise(session: Session, _left: int) -> None:
        expires_at = time.time() + limits.USER_URL_S
        for upload in uploads:
            if upload.size:
                session.add(
                    StorageRoom(
                        id=new_uuid(),
                        user_id=user_id,
                        path=upload.path,
                        bytes=upload.size,
                        promised=True,
                        expires_at=expires_at,
                    )
                )

    if _is_limited(rt, user_id):
        _with_room(rt, user_id, needed, promise, in_place_of=paths)
    sign = rt.file_urls.sign
    return [sign(user_id, path, COUNTED_UPLOAD, limits.USER_URL_S) for path in paths]


def check_storage(rt: Runtime, user_id: str) -> None:
    """Refuse more of a user whose storage is full. Not for a transaction: it may list objects.
    Raises QuotaExceeded: it is full."""
    if _is_limited(rt, user_id):
        _with_room(rt, user_id, 0, None)


@contextmanager
def room_for_copies(rt: Runtime, user_id: str, path: str, size: int) -> Iterator[None]:
    """Take room for something that the storage copies itself, and give it back on an error."""
    room = StorageRoomClaim(rt, user_id, path)
    room.take(size)
    try:
        yield
    except BaseException:
        # Part of it may be there: a listing counts that.
        room.give_back()
        raise
    room.stored(size)


def forget_stored(rt: Runtime, user_id: str, path: str) -> None:
    """Note that a file is not there any more, or a folder with all in it."""
    below = StorageRoom.path.startswith(f"{path}/", autoescape=True)
    removed = or_(StorageRoom.path == path, below)
    with rt.store.write() as session:
        session.connection().execute(
            delete(StorageRoom).where(_OWN, _IS_STORED, removed), {"user": user_id}
        )
    rt.stored.note_removed(user_id)


class StorageRoomClaim:
    """The room of one upload into a user's storage."""

    def __init__(self, rt: Runtime, user_id: str, path: str, room_id: str | None = None) -> None:
        """Nothing is taken yet. `room_id`: of one that an earlier process may have begun to take.
        Users without a quota for storage take none."""
        self._rt, self._user_id, self._path = rt, user_id, path
        self._id = room_id or new_uuid()
        self._limited = _is_limited(rt, user_id)
        self._taken, self._renewed_at = -1, 0.0

    def covers(self, size: int) -> bool:
        """Whether room for `size` bytes in all is taken, so that `take` has nothing to do."""
        is_fresh = time.monotonic() - self._renewed_at < ROOM_KEPT_S / 4
        return not self._limited or (size <= self._taken and is_fresh)

    def take(self, size: int) -> None:
        """Have room for `size` bytes in all. Raises QuotaExceeded: there is not so much room."""
        if self.covers(size):
            return
        now = time.monotonic()
        is_first = self._taken < 0
        # What follows is taken in steps: a statement for each piece of a body would be too many.
        steps = not is_first and size > self._taken
        needed = max(size, self._taken)

        def write(session: Session, left: int) -> None:
            share = int((left - needed) * ROOM_STEP_SHARE)
            self._taken = needed + (min(ROOM_STEP_BYTES, share) if steps else 0)
            expires_at = time.time() + ROOM_KEPT_S
            session.add(
                StorageRoom(
                    id=self._id,
                    user_id=self._user_id,
                    path=self._path,
                    bytes=self._taken,
                    promised=False,
                    expires_at=expires_at,
                )
            )

        in_place_of = [self._path] if is_first else []
        _with_room(self._rt, self._user_id, needed, write, in_place_of=in_place_of, but=self._id)
        self._renewed_at = now

    def stored(self, size: int) -> None:
        """Note that all is stored, `size` bytes, in place of what was there."""
        if not self._limited:
            return
        stored_at = self._rt.store.clock()
        with self._rt.store.write() as session:
            connection = session.connection()
            connection.execute(_REPLACE, {"user": self._user_id, "at": self._path})
            facts = {"room": self._id, "size": size, "moment": stored_at}
            connection.execute(_NOTE_STORED, facts)

    def give_back(self) -> None:
        """Note that nothing is stored."""
        if not self._limited:
            return
        with self._rt.store.write() as session:
            session.execute(delete(StorageRoom).where(StorageRoom.id == self._id))


def _is_limited(rt: Runtime, user_id: str) -> bool:
    return _QUOTA.value in quotas_of(rt, user_id)


def _with_room(
    rt: Runtime,
    user_id: str,
    size: int,
    write: Callable[[Session, int], None] | None,
    *,
    in_place_of: Sequence[str] = (),
    but: str = "",
) -> None:
    """Run `write` in a transaction in which a user's storage has room for `size` bytes.

    Two requests of a user are decided one after the other. `write` is not run where the user's
    quota was taken away meanwhile.

    Args:
        size: bytes.
        write: is given the session and the bytes that are left; None: nothing is to be written.
        in_place_of: paths whose promised room is not counted any more, and is dropped.
        but: the id of a room that is not counted.

    Raises QuotaExceeded: there is no room.
    """
    listing = rt.stored.listing(user_id)
    try:
        _try_room(rt, user_id, size, write, in_place_of, but, listing)
    except QuotaExceeded:
        # Something may have been removed since.
        newest = rt.stored.listing(user_id, fresh_s=0)
        if newest is listing:
            raise
        _try_room(rt, user_id, size, write, in_place_of, but, newest)


def _try_room(
    rt: Runtime,
    user_id: str,
    size: int,
    write: Callable[[Session, int], None] | None,
    in_place_of: Sequence[str],
    but: str,
    listing: StoredListing,
) -> None:
    now = time.time()
    with rt.store.read() if write is None else rt.store.write() as session:
        if write is None:
            allowed: Mapping[str, float] = quotas_of(rt, user_id)
        else:
            allowed = locked_quotas(session, user_id)
            _forget(session, user_id, in_place_of, but, now, kept_s(listing))
        if _QUOTA.value not in allowed:
            return
        limit = int(allowed[_QUOTA.value] * _GIB)
        used = listing.size + added_bytes(session, user_id, listing, now)
        # What is full takes nothing, not even what is empty: its sender would not be stopped.
        if used + size > limit or used >= limit:
            raise QuotaExceeded(_sentence(limit, used, size))
        if write is not None:
            write(session, limit - used)


def _forget(
    session: Session, user_id: str, paths: Sequence[str], but: str, now: float, keep_s: float
) -> None:
    """Drop what counts no longer, and what is to be counted again."""
    facts = {"user": user_id, "now": now, "seen": now - keep_s, "but": but}
    for start in range(0, max(1, len(paths)), _AT_ONCE):
        some = list(paths[start : start + _AT_ONCE])
        session.connection().execute(_FORGET, {**facts, "paths": some})


def _sentence(limit: int, used: int, size: int) -> str:
    # One unit for all three, with enough digits to see what is missing.
    in_gib = limit >= _GIB / 10
    allowed, in_use, more = (
        f"{n / _GIB:.7g} GiB" if in_gib else f"{n} bytes" for n in (limit, used, size)
    )
    asked = f", {more} more asked for" if size else ""
    return (
        f"{_QUOTA}: {allowed} allowed, {in_use} in use{asked}. Remove what you do not need "
        f"(`simherd storage remove`). {how_to_raise(_QUOTA)}"
    )
