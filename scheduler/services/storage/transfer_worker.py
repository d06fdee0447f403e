"""Giving transfers their turns: few at a time, so that the worker's other jobs go on beside them,
and to one user after the other, so that nobody's slow servers hold up everybody."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

import httpx
from sqlalchemy import func, select, update
from sqlalchemy.exc import InterfaceError, OperationalError

from scheduler.net.ssrf_guard import NotAllowed
from scheduler.objects.base import NoSuchObject, PathTaken, StorageUnavailable
from scheduler.services.errors import Conflict, ServiceError
from scheduler.services.storage.export import export_some
from scheduler.services.storage.fetch import fetch_some
from scheduler.services.storage.room import StorageRoomClaim
from scheduler.services.storage.transfer_turn import Again, Turn
from scheduler.services.storage.transfers import JOB
from scheduler.store.models import TransferRow, User
from simherd.contract.transfers import TransferKind, TransferState
from simherd.runtime.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)

#: Seconds after which a turn is taken to have died with its worker: more than a job may take.
_DEAD_S = 150.0
#: Turns that go on at a time, each of another user.
MOST_TURNS = 2
#: Turns in a row that may bring nothing, and the waits between them.
_TRIES, _BACKOFF = 6, Backoff(2.0, 64.0)
#: Errors that another turn changes nothing about.
_FINAL = (
    *(NotAllowed, ServiceError, PathTaken, NoSuchObject),
    *(httpx.TooManyRedirects, httpx.UnsupportedProtocol, httpx.InvalidURL),
)
_STEPS = {TransferKind.FETCH: fetch_some, TransferKind.EXPORT: export_some}


def carry_on(rt: Runtime) -> None:
    """Give a transfer of the user who has waited longest a turn, and ask for the next one's."""
    row = _claim(rt, time.time())
    if row is None:
        return
    turn, moved = Turn(row), row.moved
    try:
        if row.failures >= _TRIES:
            raise Conflict("The server gave up on it: its turns died. Its log has the cause.")
        row.state = (
            TransferState.DONE
            if _STEPS[TransferKind(row.kind)](rt, turn)
            else TransferState.WAITING
        )
        row.error, row.failures = None, 0
    except _FINAL as error:
        _fail(rt, row, error)
    except Exception as error:
        if not isinstance(error, Again | httpx.HTTPError):
            log.exception("event=transfer_broke transfer=%s", row.id)
        _try_again(rt, row, error, brought_something=row.moved > moved)
    _record(rt, row)
    rt.send_job(JOB)


def _claim(rt: Runtime, now: float) -> TransferRow | None:
    """The transfer whose turn it is; None where there is none, or enough have theirs."""
    under_way = (TransferRow.state == TransferState.RUNNING.value, TransferRow.next_at > now)
    due = (
        select(TransferRow, User)
        .join(User, User.id == TransferRow.user_id)
        .where(
            TransferRow.state.in_([TransferState.WAITING, TransferState.RUNNING]),
            TransferRow.next_at <= now,
            TransferRow.user_id.not_in(select(TransferRow.user_id).where(*under_way)),
        )
        .order_by(User.transfer_turn_at, TransferRow.next_at)
        .limit(1)
    )
    with rt.store.read() as session:
        # Mostly there is none: then nothing is written.
        if session.scalar(due.with_only_columns(TransferRow.id)) is None:
            return None
    with rt.store.write() as session:
        if (session.scalar(select(func.count()).where(*under_way)) or 0) >= MOST_TURNS:
            return None
        # The user is locked, too, but not against what refers to them, such as a new task.
        found = session.execute(due.with_for_update(skip_locked=True, key_share=True)).first()
        if found is None:
            return None
        row, user = found
        if row.state == TransferState.RUNNING:
            row.failures += 1  # its last turn died with its worker
        row.state, row.next_at, user.transfer_turn_at = TransferState.RUNNING, now + _DEAD_S, now
        row.turn += 1
    claimed: TransferRow = row
    return claimed


def _fail(rt: Runtime, row: TransferRow, error: Exception) -> None:
    row.state = TransferState.FAILED
    row.error = f"path: {error}." if isinstance(error, PathTaken) else _sentence(error)
    if row.kind == TransferKind.FETCH:
        StorageRoomClaim(rt, row.user_id, row.path, room_id=row.id).give_back()
    if row.upload is not None:
        # What stays of it is found by the doctor.
        with contextlib.suppress(StorageUnavailable):
            rt.objects.abort_upload(row.user_id, row.path, row.upload)


def _try_again(rt: Runtime, row: TransferRow, error: Exception, *, brought_something: bool) -> None:
    row.failures = 1 if brought_something else row.failures + 1
    if row.failures >= _TRIES:
        _fail(rt, row, error)
        return
    row.state, row.error = TransferState.WAITING, _sentence(error)


def _sentence(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "The other server does not answer."
    if isinstance(error, StorageUnavailable):
        return "The storage does not answer."
    if isinstance(error, NoSuchObject):
        return f"path: {error} was removed meanwhile."
    known = isinstance(error, (Again, httpx.HTTPError, *_FINAL))
    return str(error) if known and str(error) else "The server failed; its log has the cause."


def _record(rt: Runtime, row: TransferRow) -> None:
    """Write down what a turn has changed; what cannot be written down has failed."""
    pause = _BACKOFF.after(row.failures) if row.failures else 0
    try:
        _write(rt, row, pause, ("size", "moved", "upload", "parts", "validator"))
    except (OperationalError, InterfaceError):
        raise  # the database's trouble: the turn is taken to have died
    except Exception as error:
        # What another server has said is in it. Left as it is, it would be tried again and again.
        log.exception("event=transfer_not_recorded transfer=%s", row.id)
        _fail(rt, row, error)
        _write(rt, row, pause)
    log.info("event=transfer transfer=%s state=%s moved=%s", row.id, row.state, row.moved)


def _write(rt: Runtime, row: TransferRow, pause: float, fields: Sequence[str] = ()) -> None:
    """Unless another turn was begun because this one took so long."""
    now = time.time()
    with rt.store.write() as session:
        session.execute(
            update(TransferRow)
            .where(TransferRow.id == row.id, TransferRow.turn == row.turn)
            .values(
                state=str(row.state),
                ended_at=now if row.state in (TransferState.DONE, TransferState.FAILED) else None,
                next_at=now + pause,
                error=row.error,
                failures=row.failures,
                **{name: getattr(row, name) for name in fields},
            )
        )
