"""The audit log of operators' actions. Entries are added and never changed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from scheduler.store.admin_models import AuditEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

#: Entries of one request at the most.
MOST_ENTRIES = 1000


def add_audit_entry(
    session: Session, /, actor: str, action: str, subject: str, **facts: Any
) -> None:
    """Note what is done, in the transaction that does it; `facts` never hold a secret."""
    session.add(
        AuditEntry(at=time.time(), actor=actor, action=action, subject=subject, facts=facts)
    )


def audit_entries(
    session: Session,
    *,
    limit: int,
    before: int | None = None,
    actor: str | None = None,
    subject: str | None = None,
) -> Sequence[AuditEntry]:
    """Return entries, the newest first.

    `before`: only entries that are older than the one of this id; `actor`: only actions of this
    operator; `subject`: only actions on this subject.
    """
    query = select(AuditEntry)
    if before is not None:
        query = query.where(AuditEntry.id < before)
    if actor is not None:
        query = query.where(AuditEntry.actor == actor)
    if subject is not None:
        query = query.where(AuditEntry.subject == subject)
    return session.scalars(query.order_by(AuditEntry.id.desc()).limit(limit)).all()
