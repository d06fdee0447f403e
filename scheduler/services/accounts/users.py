"""Users and their keys."""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import TYPE_CHECKING

from sqlalchemy import and_, or_, select

from scheduler.services.ids import new_uuid
from scheduler.services.projects.projects import DEFAULT_PROJECT, ensure_project
from scheduler.store.models import ApiKey, User

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session


def key_digest(key: str) -> str:
    """What is stored of a key. Keys are long and random: a plain hash is enough."""
    return hashlib.sha256(key.encode()).hexdigest()


def create_user(
    session: Session, username: str, email: str, *, quotas: Mapping[str, float] | None = None
) -> User:
    """A new user with a default project.

    Args:
        session: in a transaction that writes.
        username: the name, which nobody has.
        email: the address.
        quotas: what the user may have at one time, as `StoreSettings.quotas_of_new_users` says;
            None: nothing is limited.
    """
    user = User(
        id=new_uuid(),
        username=username,
        email=email,
        created_at=time.time(),
        quotas=dict(quotas or {}),
    )
    session.add(user)
    session.flush()
    ensure_project(session, user.id, DEFAULT_PROJECT)
    return user


def create_key(session: Session, user_id: str, label: str, key: str | None = None) -> str:
    """A new API key of a user; this is the only time that it can be read."""
    key = key or f"sh_{secrets.token_urlsafe(32)}"
    session.merge(
        ApiKey(
            digest=key_digest(key),
            user_id=user_id,
            label=label,
            created_at=time.time(),
            revoked_at=None,
        )
    )
    return key


def user_of_key(session: Session, key: str) -> User | None:
    """Whose key it is; None for one that is unknown, revoked or has expired.

    The user may be disabled, and be let in no more.
    """
    return session.scalar(
        select(User)
        .join(ApiKey, ApiKey.user_id == User.id)
        .where(ApiKey.digest == key_digest(key), is_usable())
    )


def is_usable() -> ColumnElement[bool]:
    """That a key is neither revoked nor expired, as a condition of a query."""
    in_time = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > time.time())
    return and_(ApiKey.revoked_at.is_(None), in_time)
