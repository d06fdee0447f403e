"""What one process of several does at a time, and which processes of a kind there are.

Everything that is shared out like this may be done twice: a process that was frozen, or whose clock
is wrong, costs work done in vain, and nothing else.
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
    """A name for one process, which nobody else has: its host, and chance."""
    return f"{socket.gethostname()}:{secrets.token_hex(8)}"


def acquire(store: Store, name: str, holder: str, now: float, seconds: float) -> bool:
    """Take a duty, or go on with it, unless somebody else has it; answers whether it was taken.

    Args:
        store: the task store.
        name: the duty.
        holder: who wants it.
        now: seconds since the epoch.
        seconds: for how long nobody else takes it.
    """
    with store.write() as session:
        taken: Any = session.execute(
            update(LeadershipRow)
            .where(
                LeadershipRow.name == name,
                or_(LeadershipRow.holder == holder, LeadershipRow.until <= now),
            )
            .values(holder=holder, until=now + seconds)
        )
        if taken.rowcount:
            return True
        if session.get(LeadershipRow, name) is not None:
            return False
    try:
        with store.write() as session:
            session.add(LeadershipRow(name=name, holder=holder, until=now + seconds))
    except IntegrityError:
        # Another was first.
        return False
    return True


def extend_until(store: Store, name: str, holder: str, until: float) -> None:
    """Have a duty end at another time, where the holder still has it."""
    with store.write() as session:
        session.execute(
            update(LeadershipRow)
            .where(LeadershipRow.name == name, LeadershipRow.holder == holder)
            .values(until=until)
        )


def announce_presence(
    store: Store, kind: str, holder: str, now: float, seconds: float
) -> list[str]:
    """Say that a process of a kind is there, and will be for some seconds.

    Returns:
        The holders of this kind that are there, in an order that all of them see.
    """
    prefix = f"{kind}:"
    name = prefix + holder
    acquire(store, name, holder, now, seconds)
    with store.read() as session:
        found = session.scalars(
            select(LeadershipRow.holder)
            .where(
                LeadershipRow.name.startswith(prefix, autoescape=True), LeadershipRow.until > now
            )
            .order_by(LeadershipRow.name)
        )
        return list(found)


def withdraw_presence(store: Store, kind: str, holder: str, now: float) -> None:
    """Say that a process goes; forget those of its kind that went without a word."""
    prefix = f"{kind}:"
    with store.write() as session:
        session.execute(
            delete(LeadershipRow).where(
                LeadershipRow.name.startswith(prefix, autoescape=True),
                or_(LeadershipRow.holder == holder, LeadershipRow.until <= now),
            )
        )
