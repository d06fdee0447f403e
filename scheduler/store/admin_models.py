"""The tables of those who look after a server. Times are seconds since the epoch, UTC."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON
from sqlalchemy.orm import Mapped, mapped_column

from scheduler.store.models import SEQUENCE, Base


class AuditEntry(Base):
    """What an operator has done. Added, never changed: the database refuses it."""

    __tablename__ = "audit_entries"
    id: Mapped[int] = mapped_column(SEQUENCE, primary_key=True, autoincrement=True)
    at: Mapped[float]
    #: The operator's name, or that of the command and who ran it.
    actor: Mapped[str]
    action: Mapped[str]
    #: What it was done to.
    subject: Mapped[str]
    #: Never a secret.
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)


class MachinePrice(Base):
    """What a machine type costs instead of what the table says, US$ per hour; None: as it says."""

    __tablename__ = "machine_prices"
    machine_type: Mapped[str] = mapped_column(primary_key=True)
    on_demand: Mapped[float | None]
    spot: Mapped[float | None]
    set_at: Mapped[float]


class SchemaRule(Base):
    """One row: the revision that a program must know to work with this schema."""

    __tablename__ = "schema_rule"
    oldest: Mapped[str] = mapped_column(primary_key=True)
