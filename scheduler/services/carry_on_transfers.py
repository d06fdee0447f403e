"""Giving transfers their turns: one at a time, so that the worker's other jobs go on beside it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import httpx
from sqlalchemy import func, select, update

from scheduler.objects.base import NoSuchObject, PathTaken
from scheduler.outbound import NotAllowed
from scheduler.services.errors import Conflict, Refused
from scheduler.services.export_transfer import export_some
from scheduler.services.fetch_transfer import fetch_some
from scheduler.services.transfer_turn import Again, Turn
from scheduler.services.transfers import JOB
from scheduler.store.models import Transfer
from simherd.contract.transfers import Kind, State

if TYPE_CHECKING:
    from scheduler.wiring import Parts

log = logging.getLogger(__name__)

#: Seconds after which a turn is taken to have died with its worker: more than a job may take.
_DEAD_S = 150.0
#: Turns in a row that may bring nothing, and seconds before the second of them; doubled each time.
_TRIES, _PAUSE_S = 6, 2.0
#: Errors that another turn changes nothing about.
_FINAL = (
    *(NotAllowed, Refused, PathTaken, NoSuchObject),
    *(httpx.TooManyRedirects, httpx.UnsupportedProtocol, httpx.InvalidURL),
)
_STEPS = {Kind.FETCH: fetch_some, Kind.EXPORT: export_some}


def carry_on(parts: Parts) -> None:
    """Give the transfer that has waited longest a turn, and ask for the next one's."""
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
    """The transfer whose turn it is; None where there is none, or another has its turn."""
    due = (
        select(Transfer)
        .where(Transfer.state.in_([State.WAITING, State.RUNNING]), Transfer.next_at <= now)
        .order_by(Transfer.next_at)
        .limit(1)
    )
    under_way = select(func.count()).where(
        Transfer.state == State.RUNNING.value, Transfer.next_at > now
    )
    with parts.store.read() as session:
        # Mostly there is none: then nothing is written.
        if session.scalar(due.with_only_columns(Transfer.id)) is None:
            return None
    with parts.store.write() as session:
        if session.scalar(under_way):
            return None
        row = session.scalar(due.with_for_update(skip_locked=True))
        if row is None:
            return None
        if row.state == State.RUNNING:
            row.failures += 1  # its last turn died with its worker
        row.state, row.next_at = State.RUNNING, now + _DEAD_S
        row.turn += 1
    return row


def _fail(parts: Parts, row: Transfer, error: Exception) -> None:
    row.state = State.FAILED
    row.error = f"path: {error}." if isinstance(error, PathTaken) else _sentence(error)
    if row.upload is not None:
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
    if isinstance(error, NoSuchObject):
        return f"path: {error} was removed meanwhile."
    known = isinstance(error, (Again, httpx.HTTPError, *_FINAL))
    return str(error) if known and str(error) else "The server failed; its log has the cause."


def _record(parts: Parts, row: Transfer) -> None:
    """Write down what a turn has changed, unless another turn was begun because it took so long."""
    now = time.time()
    ended = row.state in (State.DONE, State.FAILED)
    pause = _PAUSE_S * 2 ** (row.failures - 1) if row.failures else 0
    names = ("error", "failures", "size", "moved", "upload", "parts", "validator")
    with parts.store.write() as session:
        session.execute(
            update(Transfer)
            .where(Transfer.id == row.id, Transfer.turn == row.turn)
            .values(
                state=str(row.state),
                ended_at=now if ended else None,
                next_at=now + pause,
                **{name: getattr(row, name) for name in names},
            )
        )
    log.info("event=transfer transfer=%s state=%s moved=%s", row.id, row.state, row.moved)
