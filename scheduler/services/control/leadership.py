"""Leaderships: work that one process of several does at a time; and which processes there are.

Work that is shared out like this must be safe to do twice: a process that was suspended, or whose
clock is wrong, wastes work, and does no other harm.
"""

from __future__ import annotations

import secrets
import socket
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, or_, select, update
from sqlalchemy.exc import IntegrityError

from scheduler.store.models import LeadershipRow

if TYPE_CHECKING:
    from scheduler.store.engine import Store


def new_holder() -> str:
    """Return a unique name for one process: its host and a random number."""
    return f"{socket.gethostname()}:{secrets.token_hex(8)}"


def acquire(store: Store, name: str, holder: str, now: float, seconds: float) -> bool:
    """Acquire or renew a leadership; return False where another process has it.
    `now`: seconds since the epoch; `seconds`: for how long no other process can acquire it."""
    with store.write() as session:
        renewed: Any = session.execute(
            update(LeadershipRow)
            .where(
                LeadershipRow.name == name,
                or_(LeadershipRow.holder == holder, LeadershipRow.until <= now),
            )
            .values(holder=holder, until=now + seconds)
        )
        if renewed.rowcount:
            return True
        if session.get(LeadershipRow, name) is not None:
            return False
    try:
        with store.write() as session:
            session.add(LeadershipRow(name=name, holder=holder, until=now + seconds))
    except IntegrityError:
        # Another process was faster.
        return False
    return True


def extend_until(store: Store, name: str, holder: str, until: float) -> None:
    """Set the time at which a leadership ends, if the holder still has it."""
    with store.write() as session:
        session.execute(
            update(LeadershipRow)
            .where(LeadershipRow.name == name, LeadershipRow.holder == holder)
            .values(until=until)
        )


def announce_presence(
    store: Store, kind: str, holder: str, now: float, seconds: float
) -> list[str]:
    """Announce that a process of a kind runs, and will run for some seconds.
    Returns the running processes of this kind, in the same order for all of them."""
    prefix = f"{kind}:"
    name = prefix + holder
    acquire(store, name, holder, now, seconds)
    with store.read() as session:
        holders = session.scalars(
            select(LeadershipRow.holder)
            .where(
                LeadershipRow.name.startswith(prefix, autoescape=True), LeadershipRow.until > now
            )
            .order_by(LeadershipRow.name)
        )
        return list(holders)


def withdraw_presence(store: Store, kind: str, holder: str, now: float) -> None:
    """Withdraw a process, and those of its kind that ended without doing so."""
    prefix = f"{kind}:"
    with store.write() as session:
        session.execute(
            delete(LeadershipRow).where(
                LeadershipRow.name.startswith(prefix, autoescape=True),
                or_(LeadershipRow.holder == holder, LeadershipRow.until <= now),
            )
        )
