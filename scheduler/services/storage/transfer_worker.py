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
from scheduler.objects.base import NoSuchObject, PathTaken, StorageAway
from scheduler.services.errors import Conflict, Refused
from scheduler.services.storage.export import export_some
from scheduler.services.storage.fetch import fetch_some
from scheduler.services.storage.room import Room
from scheduler.services.storage.transfer_turn import Again, Turn
from scheduler.services.storage.transfers import JOB
from scheduler.store.models import Transfer, User
from simherd.contract.transfers import Kind, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.wiring import Parts

log = logging.getLogger(__name__)

#: Seconds after which a turn is taken to have died with its worker: more than a job may take.
_DEAD_S = 150.0
#: Turns that go on at a time, each of another user.
MOST_TURNS = 2
#: Turns in a row that may bring nothing, and seconds before the second of them; doubled each time.
_TRIES, _PAUSE_S = 6, 2.0
#: Errors that another turn changes nothing about.
_FINAL = (
    *(NotAllowed, Refused, PathTaken, NoSuchObject),
    *(httpx.TooManyRedirects, httpx.UnsupportedProtocol, httpx.InvalidURL),
)
_STEPS = {Kind.FETCH: fetch_some, Kind.EXPORT: export_some}


def carry_on(parts: Parts) -> None:
    """Give a transfer of the user who has waited longest a turn, and ask for the next one's."""
    row = _claim(parts, time.time())
    if row is None:
        return
    turn, moved = Turn(row), row.moved
    try:
        if row.failures >= _TRIES:
            raise Conflict("The server gave up on it: its turns died. Its log has the cause.")
        row.state = State.DONE if _STEPS[Kind(row.kind)](parts, turn) else State.WAITING
        row.error, row.failures = None, 0
    except _FINAL as error:
        _fail(parts, row, error)
    except Exception as error:
        if not isinstance(error, Again | httpx.HTTPError):
            log.exception("event=transfer_broke transfer=%s", row.id)
        _try_again(parts, row, error, brought_something=row.moved > moved)
    _record(parts, row)
    parts.send_job(JOB)


def _claim(parts: Parts, now: float) -> Transfer | None:
    """The transfer whose turn it is; None where there is none, or enough have theirs."""
    under_way = (Transfer.state == State.RUNNING.value, Transfer.next_at > now)
    due = (
        select(Transfer, User)
        .join(User, User.id == Transfer.user_id)
        .where(
            Transfer.state.in_([State.WAITING, State.RUNNING]),
            Transfer.next_at <= now,
            Transfer.user_id.not_in(select(Transfer.user_id).where(*under_way)),
        )
        .order_by(User.transfer_turn_at, Transfer.next_at)
        .limit(1)
    )
    with parts.store.read() as session:
        # Mostly there is none: then nothing is written.
        if session.scalar(due.with_only_columns(Transfer.id)) is None:
            return None
    with parts.store.write() as session:
        if (session.scalar(select(func.count()).where(*under_way)) or 0) >= MOST_TURNS:
            return None
        # The user is locked, too, but not against what refers to them, such as a new task.
        found = session.execute(due.with_for_update(skip_locked=True, key_share=True)).first()
        if found is None:
            return None
        row, user = found
        if row.state == State.RUNNING:
            row.failures += 1  # its last turn died with its worker
        row.state, row.next_at, user.transfer_turn_at = State.RUNNING, now + _DEAD_S, now
        row.turn += 1
    claimed: Transfer = row
    return claimed


def _fail(parts: Parts, row: Transfer, error: Exception) -> None:
    row.state = State.FAILED
    row.error = f"path: {error}." if isinstance(error, PathTaken) else _sentence(error)
    if row.kind == Kind.FETCH:
        Room(parts, row.user_id, row.path, room_id=row.id).give_back()
    if row.upload is not None:
        # What stays of it is found by the doctor.
        with contextlib.suppress(StorageAway):
            parts.objects.abort_upload(row.user_id, row.path, row.upload)


def _try_again(parts: Parts, row: Transfer, error: Exception, *, brought_something: bool) -> None:
    row.failures = 1 if brought_something else row.failures + 1
    if row.failures >= _TRIES:
        _fail(parts, row, error)
        return
    row.state, row.error = State.WAITING, _sentence(error)


def _sentence(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "The other server does not answer."
    if isinstance(error, StorageAway):
        return "The storage does not answer."
    if isinstance(error, NoSuchObject):
        return f"path: {error} was removed meanwhile."
    known = isinstance(error, (Again, httpx.HTTPError, *_FINAL))
    return str(error) if known and str(error) else "The server failed; its log has the cause."


def _record(parts: Parts, row: Transfer) -> None:
    """Write down what a turn has changed; what cannot be written down has failed."""
    pause = _PAUSE_S * 2 ** (row.failures - 1) if row.failures else 0
    try:
        _write(parts, row, pause, ("size", "moved", "upload", "parts", "validator"))
    except (OperationalError, InterfaceError):
        raise  # the database's trouble: the turn is taken to have died
    except Exception as error:
        # What another server has said is in it. Left as it is, it would be tried again and again.
        log.exception("event=transfer_not_recorded transfer=%s", row.id)
        _fail(parts, row, error)
        _write(parts, row, pause)
    log.info("event=transfer transfer=%s state=%s moved=%s", row.id, row.state, row.moved)


def _write(parts: Parts, row: Transfer, pause: float, fields: Sequence[str] = ()) -> None:
    """Unless another turn was begun because this one took so long."""
    now = time.time()
    with parts.store.write() as session:
        session.execute(
            update(Transfer)
            .where(Transfer.id == row.id, Transfer.turn == row.turn)
            .values(
                state=str(row.state),
                ended_at=now if row.state in (State.DONE, State.FAILED) else None,
                next_at=now + pause,
                error=row.error,
                failures=row.failures,
                **{name: getattr(row, name) for name in fields},
            )
        )
