"""The tables of operators. Times are seconds since the epoch, UTC."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON
from sqlalchemy.orm import Mapped, mapped_column

from scheduler.store.models import SEQUENCE, Base


class AuditEntry(Base):
    """One action of an operator. The database refuses changes of these rows."""

    __tablename__ = "audit_entries"
    id: Mapped[int] = mapped_column(SEQUENCE, primary_key=True, autoincrement=True)
    at: Mapped[float]
    #: The operator's name, or that of the command and its account.
    actor: Mapped[str]
    action: Mapped[str]
    #: What it was done to.
    subject: Mapped[str]
    #: Never a secret.
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)


class MachinePrice(Base):
    """A price that overrides the catalogue's, US$ per hour; None: the catalogue's."""

    __tablename__ = "machine_prices"
    machine_type: Mapped[str] = mapped_column(primary_key=True)
    on_demand: Mapped[float | None]
    spot: Mapped[float | None]
    set_at: Mapped[float]


class SchemaRule(Base):
    """One row: the revision that a program must know to work with this schema."""

    __tablename__ = "schema_rule"
    oldest: Mapped[str] = mapped_column(primary_key=True)
