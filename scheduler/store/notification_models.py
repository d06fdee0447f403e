"""The tables of notifications and their deliveries. Times are seconds since the epoch, UTC."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from scheduler.store.models import Base


class Registration(Base):
    """A notification that a user has registered: its trigger, and its action."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_user_state", "user_id", "state"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    trigger_type: Mapped[str]
    trigger: Mapped[str]
    task_id: Mapped[str | None] = mapped_column(ForeignKey("tasks.id"), index=True)
    group_id: Mapped[str | None] = mapped_column(ForeignKey("machine_groups.id"), index=True)
    #: Of an observer.
    file_path: Mapped[str | None]
    regex: Mapped[str | None]
    action_type: Mapped[str]
    #: The e-mail address or the URL.
    target: Mapped[str]
    #: What a webhook is signed with.
    secret: Mapped[str | None]
    state: Mapped[str]
    state_detail: Mapped[str | None]
    #: Whether the executor of an observer has yet to be sent it.
    untold: Mapped[bool] = mapped_column(default=False, index=True)
    created_at: Mapped[float]


class Delivery(Base):
    """One message of a notification, written in the transaction that triggered it."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("event_id", "occasion"),
        Index("ix_deliveries_state_next_at", "state", "next_at"),
    )
    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: str(uuid.uuid4()))
    event_id: Mapped[str] = mapped_column(ForeignKey("events.id"))
    #: Tells several of one notification apart: the machine that goes; else empty.
    occasion: Mapped[str] = mapped_column(default="")
    #: When it happened.
    at: Mapped[float]
    #: What the message says besides the notification's own fields.
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str]
    tries: Mapped[int] = mapped_column(default=0)
    #: When it is due; a worker moves it ahead before it tries, so that no other one does.
    next_at: Mapped[float]
    last_try_at: Mapped[float | None]
    #: Why the last try failed, as a sentence.
    last_error: Mapped[str | None]
