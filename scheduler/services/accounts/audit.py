"""What operators have done: who, when, what to what. Entries are added and never changed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from scheduler.store.admin_models import AuditEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

#: Entries that are told at once, at most.
MOST_ENTRIES = 1000


def note(session: Session, /, actor: str, action: str, subject: str, **facts: Any) -> None:
    """Note what is done, in the transaction that does it; `facts` never hold a secret."""
    session.add(
        AuditEntry(at=time.time(), actor=actor, action=action, subject=subject, facts=facts)
    )


def entries(
    session: Session,
    *,
    limit: int,
    before: int | None = None,
    actor: str | None = None,
    subject: str | None = None,
) -> Sequence[AuditEntry]:
    """Entries, the newest first.

    Args:
        session: to ask with.
        limit: how many at the most.
        before: only those that were added before the one of this id.
        actor: only what this one did.
        subject: only what was done to this.
    """
    wanted = select(AuditEntry)
    if before is not None:
        wanted = wanted.where(AuditEntry.id < before)
    if actor is not None:
        wanted = wanted.where(AuditEntry.actor == actor)
    if subject is not None:
        wanted = wanted.where(AuditEntry.subject == subject)
    return session.scalars(wanted.order_by(AuditEntry.id.desc()).limit(limit)).all()
