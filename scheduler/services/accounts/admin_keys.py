"""The operators' view of API keys. A key itself is shown once, when it is made."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from scheduler.services.accounts.admin_users import lock_operators, named_user
from scheduler.services.accounts.audit import add_audit_entry
from scheduler.services.accounts.users import create_key, is_usable, key_digest
from scheduler.services.errors import Conflict, Invalid, ResourceNotFound
from scheduler.store.models import ApiKey, User

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

#: Characters of a key's digest that name it: enough to distinguish keys, not to log in.
_ID_LENGTH = 12
#: The longest validity of a key, seconds.
_MOST_S = 10 * 366 * 86400.0


@dataclass(frozen=True)
class KeyState:
    """A key without its secret; times are seconds since the epoch."""

    id: str
    username: str
    label: str
    created_at: float
    expires_at: float | None
    revoked_at: float | None

    def good(self, now: float) -> bool:
        """Return whether it is accepted at this moment, unless its user is disabled."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def key_states(session: Session, username: str | None = None) -> list[KeyState]:
    """Every user's keys, or one user's, the oldest first. Raises ResourceNotFound."""
    query = select(ApiKey, User.username).join(User, User.id == ApiKey.user_id)
    if username is not None:
        query = query.where(ApiKey.user_id == named_user(session, username).id)
    rows = session.execute(query.order_by(ApiKey.created_at, ApiKey.digest))
    return [_state(key, name) for key, name in rows]


def make_key(
    session: Session, actor: str, username: str, label: str, valid_s: float | None = None
) -> tuple[str, KeyState]:
    """Make a key; return its secret, which is not stored, and its state.

    `label`: its purpose, in a word or two. `valid_s`: seconds until it expires; None: it does not.

    Raises:
        ResourceNotFound: no such user.
        Invalid: the label or the time is not allowed.
    """
    user = named_user(session, username)
    if not 0 < len(label) <= 80 or not label.isprintable():
        raise Invalid(f"label: {label[:80]!r} is not 1 to 80 printable characters.")
    if valid_s is not None and not 0 < valid_s <= _MOST_S:
        raise Invalid(f"valid_s: {valid_s} is not between 0 and ten years, in seconds.")
    secret = create_key(session, user.id, label)
    session.flush()
    key = session.get_one(ApiKey, key_digest(secret))
    if valid_s is not None:
        key.expires_at = key.created_at + valid_s
    state = _state(key, username)
    add_audit_entry(
        session, actor, "key_create", username, key=state.id, label=label, valid_s=valid_s
    )
    return secret, state


def revoke_key(session: Session, actor: str, key_id: str) -> None:
    """End a key now. Doing so again changes nothing.

    Raises:
        ResourceNotFound: no such key.
        Conflict: its id is ambiguous, or no operator would have a usable key any more.
    """
    key, username = _key(session, key_id)
    if key.revoked_at is None:
        _check_others(session, key, username)
        key.revoked_at = time.time()
        add_audit_entry(session, actor, "key_revoke", username, key=key_id, label=key.label)


def rotate_key(
    session: Session, actor: str, key_id: str, keep_s: float = 0.0
) -> tuple[str, KeyState]:
    """Replace a key by one that is valid for as long; returns the same as `make_key`.

    `key_id`: the key that is replaced. `keep_s`: seconds for which that one stays valid; 0: it is
    revoked.

    Raises:
        ResourceNotFound: no such key.
        Conflict: it is revoked or has expired, or its id is ambiguous.
        Invalid: the time is not allowed.
    """
    if not 0 <= keep_s <= _MOST_S:
        raise Invalid(f"keep_s: {keep_s} is not between 0 and ten years, in seconds.")
    key, username = _key(session, key_id)
    now = time.time()
    if not _state(key, username).good(now):
        raise Conflict(f"key: {key_id} is revoked or has expired. Make a new one.")
    valid_s = None if key.expires_at is None else key.expires_at - key.created_at
    made = make_key(session, actor, username, key.label, valid_s)
    if keep_s:
        key.expires_at = min(now + keep_s, key.expires_at or now + keep_s)
    else:
        key.revoked_at = now
    add_audit_entry(
        session, actor, "key_rotate", username, key=key_id, by=made[1].id, keep_s=keep_s
    )
    return made


def _check_others(session: Session, key: ApiKey, username: str) -> None:
    """Refuse to revoke the last usable key of an operator. Raises Conflict."""
    lock_operators(session)
    usable = select(ApiKey.digest).join(User, User.id == ApiKey.user_id)
    usable = usable.where(User.is_operator, User.disabled_at.is_(None), is_usable())
    if set(session.scalars(usable.limit(2))) == {key.digest}:
        key_id = key.digest[:_ID_LENGTH]
        raise Conflict(
            f"key: {key_id} of {username!r} is the last usable key of an operator: nobody could "
            f"administer the server any more. Make another first (`simherd admin keys create "
            f"{username}`), or replace it: `simherd admin keys rotate {key_id}`."
        )


def _key(session: Session, key_id: str) -> tuple[ApiKey, str]:
    if len(key_id) < _ID_LENGTH or not key_id.isalnum():
        raise ResourceNotFound(
            f"key: {key_id[:80]!r} is not the id of a key. `simherd admin keys list`."
        )
    query = select(ApiKey, User.username).join(User, User.id == ApiKey.user_id)
    found = session.execute(
        query.where(ApiKey.digest.startswith(key_id)).with_for_update(of=ApiKey)
    ).all()
    if not found:
        raise ResourceNotFound(
            f"key: there is no key {key_id!r}. `simherd admin keys list` shows them."
        )
    if len(found) > 1:
        raise Conflict(f"key: {key_id!r} begins the digests of {len(found)} keys.")
    return found[0][0], found[0][1]


def _state(key: ApiKey, username: str) -> KeyState:
    return KeyState(
        key.digest[:_ID_LENGTH], username, key.label, key.created_at, key.expires_at, key.revoked_at
    )
